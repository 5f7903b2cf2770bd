# membridge for Nix: in the sources, `nix build '.?dir=packaging/nix'`, or `nix run 'git+URL?dir=packaging/nix' -- doctor`.
{
  description = "Keeps claude-mem databases of several machines in step, and never loses a row";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs = { self, nixpkgs }:
    let
      source = ../..;
      package = (builtins.fromTOML (builtins.readFile (source + "/Cargo.toml"))).package;
      each = nixpkgs.lib.genAttrs [ "x86_64-linux" "aarch64-linux" ];
      membridge = pkgs: pkgs.rustPlatform.buildRustPackage {
        pname = package.name;
        inherit (package) version;
        src = source;
        cargoLock.lockFile = source + "/Cargo.lock";
        nativeBuildInputs = [ pkgs.installShellFiles ];
        # As .cargo/config.toml has it.
        env.LIBSQLITE3_FLAGS = "-DSQLITE_ENABLE_DBPAGE_VTAB";
        cargoBuildFlags = [ "--bin" "membridge" ];
        # `make test` wants tools and time that a sandbox does not give.
        doCheck = false;
        postInstall = ''
          for shell in bash zsh fish; do
            $out/bin/membridge completions $shell > membridge.$shell
          done
          installShellCompletion membridge.bash membridge.zsh membridge.fish
          $out/bin/membridge man > membridge.1
          installManPage membridge.1
          install -D -m 755 -t $out/share/membridge/hooks hooks/claude-mem-*
        '';
        meta = {
          inherit (package) description;
          license = nixpkgs.lib.licenses.mit;
          mainProgram = "membridge";
        };
      };
    in
    {
      packages = each (system: { default = membridge nixpkgs.legacyPackages.${system}; });
    };
}
