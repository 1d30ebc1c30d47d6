//! The four-letter words, which take the place of a handshake on the client port.

macro_rules! words {
    ($($variant:ident = $text:literal;)*) => {
        /// A four-letter word. Which of them are answered is for the proxy's whitelist to say.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Word {
            $(#[doc = concat!("`", $text, "`")] $variant,)*
        }

        impl Word {
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                }
            }

            /// The word in the first four bytes of a connection.
            pub fn sniff(bytes: [u8; 4]) -> Option<Self> {
                $(if bytes == *$text.as_bytes() {
                    return Some(Self::$variant);
                })*
                None
            }
        }
    };
}

words! {
    Ruok = "ruok";
    Isro = "isro";
    Srvr = "srvr";
    Stat = "stat";
    Cons = "cons";
    Conf = "conf";
    Dump = "dump";
    Envi = "envi";
    Mntr = "mntr";
    Wchs = "wchs";
    Wchc = "wchc";
    Wchp = "wchp";
    Dirs = "dirs";
    Gtmk = "gtmk";
    Stmk = "stmk";
    Crst = "crst";
    Srst = "srst";
    Hash = "hash";
}

/// A word as it arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FourLetterWord {
    pub word: Word,
    /// The trace mask that follows `stmk`, and nothing else.
    pub argument: Option<i64>,
}
