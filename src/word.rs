//! Enums whose values are words that others read: each is declared once, with its word, and none is forgotten in the
//! list of all.

/// Declares such an enum.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident: $($(#[doc = $doc:literal])+ $kind:ident = $word:literal,)+) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name {
            $($(#[doc = $doc])+ $kind,)+
        }

        impl $name {
            /// Every value.
            pub const ALL: &[Self] = &[$(Self::$kind),+];

            /// Its word.
            pub fn word(self) -> &'static str {
                match self {
                    $(Self::$kind => $word,)+
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.word())
            }
        }
    };
}

pub(crate) use words;
