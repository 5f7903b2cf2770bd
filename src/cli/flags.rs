//! Settings as flags, and how they become settings. Knows no meaning.

use std::collections::BTreeMap;

use clap::Args;

macro_rules! setting_flags {
    (values { $($value:ident = $value_name:literal, $value_help:literal;)* }
     switches { $($switch:ident = $switch_name:literal, $switch_help:literal;)* }) => {
        /// Settings as flags. Keys have none: arguments can be read by every process of the machine.
        #[derive(Debug, Clone, Default, Args)]
        #[command(next_help_heading = "Settings (flag, then environment, then config.env, then default)")]
        pub struct SettingFlags {
            $(
                #[doc = $value_help]
                #[arg(long, value_name = $value_name, global = true, hide_short_help = true)]
                pub $value: Option<String>,
            )*
            $(
                #[doc = $switch_help]
                #[arg(long, global = true, hide_short_help = true)]
                pub $switch: bool,
            )*
        }

        impl SettingFlags {
            /// The flags that were given, by the name of their setting.
            pub fn given(&self) -> BTreeMap<&'static str, String> {
                let mut given = BTreeMap::new();
                $(if let Some(value) = &self.$value { given.insert($value_name, value.clone()); })*
                $(if self.$switch { given.insert($switch_name, "1".to_owned()); })*
                given
            }
        }
    };
}

setting_flags! {
    values {
        project = "CLAUDE_PROJECT_ID", "Project name";
        db = "CLAUDE_MEM_DB", "Path of the local database";
        endpoint = "MINIO_ENDPOINT", "http://, https:// or file:/// URL of the store";
        bucket = "MINIO_BUCKET", "Bucket name";
        region = "MINIO_REGION", "Signing region [default: us-east-1]";
        addressing = "MINIO_ADDRESSING", "Where the bucket's name stands in a request: path, virtual (in the host name), or auto: path until the store asks for the other [default: auto]";
        limit_upload = "MEMBRIDGE_LIMIT_UPLOAD", "Kilobytes a second that an upload to a bucket may take, at least 16 [default: no limit]";
        limit_download = "MEMBRIDGE_LIMIT_DOWNLOAD", "The same for downloads [default: no limit]";
        node_id = "MEMBRIDGE_NODE_ID", "Name of this machine as primary or secondary [default: host name]";
        primary_node_id = "PRIMARY_NODE_ID", "Name of the machine that is to be primary, the one that pushes";
        hostname = "MEMBRIDGE_HOSTNAME", "Host name in locks, manifests and backups [default: the system's]";
        lock_ttl_seconds = "LOCK_TTL_SECONDS", "Seconds after which a lock counts as stale [default: 7200]";
        stale_lock_grace_seconds = "STALE_LOCK_GRACE_SECONDS", "Seconds more before a stale lock is taken over [default: 60]";
        leadership_enabled = "LEADERSHIP_ENABLED", "0: no primary, every machine may push [default: 1]";
        leadership_lease_seconds = "LEADERSHIP_LEASE_SECONDS", "Seconds that the primary keeps its role without a push [default: 3600]";
        pull_backup_max_days = "PULL_BACKUP_MAX_DAYS", "Days that the backups of pulls are kept [default: 14]";
        pull_backup_max_count = "PULL_BACKUP_MAX_COUNT", "Number of backups of pulls that are kept [default: 50]";
        history_max_count = "HISTORY_MAX_COUNT", "Number of pushes that the bucket's history keeps [default: 50]";
        history_max_days = "HISTORY_MAX_DAYS", "Days that pushes stay in it in any case [default: 30]";
        worker_port = "CLAUDE_MEM_WORKER_PORT", "Port of the claude-mem worker";
        worker_host = "CLAUDE_MEM_WORKER_HOST", "Address of the claude-mem worker [default: 127.0.0.1]";
        key_file = "MEMBRIDGE_KEY_FILE", "File with the fleet's key, where the project is sealed [default: ~/.claude-mem-minio/fleet.key]";
        data_dir = "CLAUDE_MEM_DATA_DIR", "claude-mem's data directory [default: ~/.claude-mem]";
    }
    switches {
        force_push = "FORCE_PUSH", "Push although it is locked, both sides changed, or most rows are gone";
        allow_secondary_push = "ALLOW_SECONDARY_PUSH", "Let a secondary push";
        allow_primary_pull_override = "ALLOW_PRIMARY_PULL_OVERRIDE", "Let a primary pull over its own database";
        no_restart_worker = "MEMBRIDGE_NO_RESTART_WORKER", "Leave the worker stopped after a pull";
    }
}
