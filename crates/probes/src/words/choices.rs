//! Choices that are numbers in protobuf and texts in JSON.

/// An enumeration with its texts, and a module of the same duty for serde's `with`.
macro_rules! choices {
    ($(#[$doc:meta])* $name:ident, $with:ident, $invalid:literal { $($variant:ident = $number:literal $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, prost::Enumeration)]
        #[repr(i32)]
        pub enum $name { $($variant = $number,)* }

        impl $name {
            /// The canonical spelling.
            pub fn text(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// Reads a text in any case; the empty text is the zero value.
            pub fn read(text: &str) -> Option<Self> {
                if text.is_empty() {
                    return Some(Self::default());
                }
                [$(Self::$variant),*].into_iter().find(|c| c.text().eq_ignore_ascii_case(text))
            }
        }

        pub(super) mod $with {
            use serde::de::Error as _;
            use serde::{Deserialize as _, Deserializer, Serializer};

            use super::$name;

            pub(in super::super) fn serialize<S: Serializer>(number: &i32, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_str($name::try_from(*number).unwrap_or_default().text())
            }

            pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<i32, D::Error> {
                let text = String::deserialize(d)?;
                $name::read(&text).map(|c| c as i32).ok_or_else(|| D::Error::custom($invalid))
            }
        }
    };
}

choices! {
    /// `Any` prefers IPv6 and falls back to IPv4; the others do not fall back.
    IpVersion, ip_version, "invalid ip version string" {
        Any = 0 "Any",
        V4 = 1 "V4",
        V6 = 2 "V6",
    }
}

choices! {
    HttpMethod, http_method, "invalid HTTP method string" {
        Get = 0 "GET",
        Connect = 1 "CONNECT",
        Delete = 2 "DELETE",
        Head = 3 "HEAD",
        Options = 4 "OPTIONS",
        Post = 5 "POST",
        Put = 6 "PUT",
        Trace = 7 "TRACE",
        Patch = 8 "PATCH",
    }
}

choices! {
    DnsRecordType, dns_record_type, "invalid DNS record type string" {
        Any = 0 "ANY",
        A = 1 "A",
        Aaaa = 2 "AAAA",
        Cname = 3 "CNAME",
        Mx = 4 "MX",
        Ns = 5 "NS",
        Ptr = 6 "PTR",
        Soa = 7 "SOA",
        Srv = 8 "SRV",
        Txt = 9 "TXT",
    }
}

choices! {
    /// The zero value is TCP.
    DnsProtocol, dns_protocol, "invalid DNS protocol string" {
        Tcp = 0 "TCP",
        Udp = 1 "UDP",
    }
}

choices! {
    Compression, compression, "invalid compression algorithm string" {
        None = 0 "none",
        Identity = 1 "identity",
        Gzip = 2 "gzip",
        Br = 3 "br",
        Deflate = 4 "deflate",
    }
}
