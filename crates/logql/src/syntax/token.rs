//! Tokens, and the names they have in messages.

use super::ast::{BinaryOp, RangeOp, VectorOp};

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Token {
    End,
    Identifier(String),
    Text(String),
    /// The digits as written.
    Number(String),
    DurationNs(i64),
    Bytes(u64),
    /// `[5m]`, in nanoseconds.
    Range(i64),
    Flag(&'static str),
    Word(Word),
    Range1(RangeOp),
    Vector1(VectorOp),
}

macro_rules! words {
    ($( $name:ident = $text:literal, $order:literal; )*) => {
        /// Punctuation and words with a meaning of their own.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub(crate) enum Word { $( $name, )* }

        impl Word {
            const ALL: &'static [(Word, &'static str, u8)] = &[ $( (Word::$name, $text, $order), )* ];

            fn entry(self) -> (&'static str, u8) {
                match self { $( Word::$name => ($text, $order), )* }
            }
        }
    };
}

// The numbers are the order in which messages list expected tokens.
words! {
    Equal = "=", 10; Regex = "=~", 11; NotRegex = "!~", 12; NotPattern = "!>", 13;
    OpenBrace = "{", 14; CloseBrace = "}", 15; OpenBracket = "[", 16; CloseBracket = "]", 17;
    Comma = ",", 18; Dot = ".", 19; PipeMatch = "|~", 20; PipeExact = "|=", 21; PipePattern = "|>", 22;
    OpenParen = "(", 23; CloseParen = ")", 24; By = "by", 25; Without = "without", 26;
    Bool = "bool", 44; Json = "json", 45; Regexp = "regexp", 46; Logfmt = "logfmt", 47; Pipe = "|", 48;
    LineFormat = "line_format", 49; LabelFormat = "label_format", 50; Unwrap = "unwrap", 51;
    BytesConversion = "BYTES_CONV", 59; DurationConversion = "DURATION_CONV", 60;
    SecondsConversion = "DURATION_SECONDS_CONV", 61; VectorOf = "VECTOR", 65;
    LabelReplace = "label_replace", 66; Unpack = "unpack", 67; Offset = "offset", 68;
    Pattern = "pattern", 69; Ip = "ip", 70; On = "on", 71; Ignoring = "ignoring", 72;
    GroupLeft = "group_left", 73; GroupRight = "group_right", 74; Decolorize = "decolorize", 75;
    Drop = "drop", 76; Keep = "keep", 77; Or = "or", 78; And = "and", 79; Unless = "unless", 80;
    DoubleEqual = "==", 81; NotEqual = "!=", 82; Less = "<", 83; LessEqual = "<=", 84; Greater = ">", 85;
    GreaterEqual = ">=", 86; Add = "+", 87; Sub = "-", 88; Mul = "*", 89; Div = "/", 90; Mod = "%", 91;
    Pow = "^", 92;
}

impl Word {
    /// A word or sign that is always itself, wherever it stands.
    pub(crate) fn find(text: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .find(|(word, t, _)| *t == text && !word.is_function_only() && *word != Self::Ip)
            .map(|(word, _, _)| *word)
    }

    /// A word that has its meaning only in front of a parenthesis.
    pub(crate) fn find_function(text: &str) -> Option<Self> {
        Some(match text {
            "bytes" => Self::BytesConversion,
            "duration" => Self::DurationConversion,
            "duration_seconds" => Self::SecondsConversion,
            "vector" => Self::VectorOf,
            "label_replace" => Self::LabelReplace,
            "ip" => Self::Ip,
            _ => return None,
        })
    }

    fn is_function_only(self) -> bool {
        matches!(
            self,
            Self::BytesConversion | Self::DurationConversion | Self::SecondsConversion | Self::VectorOf
        )
    }

    pub(crate) fn binary(self) -> Option<BinaryOp> {
        Some(match self {
            Self::Or => BinaryOp::Or,
            Self::And => BinaryOp::And,
            Self::Unless => BinaryOp::Unless,
            Self::DoubleEqual => BinaryOp::Equal,
            Self::NotEqual => BinaryOp::NotEqual,
            Self::Less => BinaryOp::Less,
            Self::LessEqual => BinaryOp::LessEqual,
            Self::Greater => BinaryOp::Greater,
            Self::GreaterEqual => BinaryOp::GreaterEqual,
            Self::Add => BinaryOp::Add,
            Self::Sub => BinaryOp::Sub,
            Self::Mul => BinaryOp::Mul,
            Self::Div => BinaryOp::Div,
            Self::Mod => BinaryOp::Mod,
            Self::Pow => BinaryOp::Pow,
            _ => return None,
        })
    }

    pub(crate) fn name(self) -> &'static str {
        self.entry().0
    }

    pub(crate) fn order(self) -> u8 {
        self.entry().1
    }
}

impl Token {
    pub(crate) fn name(&self) -> String {
        match self {
            Self::End => "$end".to_owned(),
            Self::Identifier(_) => "IDENTIFIER".to_owned(),
            Self::Text(_) => "STRING".to_owned(),
            Self::Number(_) => "NUMBER".to_owned(),
            Self::DurationNs(_) => "DURATION".to_owned(),
            Self::Bytes(_) => "BYTES".to_owned(),
            Self::Range(_) => "RANGE".to_owned(),
            Self::Flag(_) => "FUNCTION_FLAG".to_owned(),
            Self::Word(word) => word.name().to_owned(),
            Self::Range1(op) => op.as_str().to_uppercase(),
            Self::Vector1(op) => op.as_str().to_uppercase(),
        }
    }
}

/// A token with its place. Tokens that are read past their first character have no line in
/// Loki's messages, hence `line` 0.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Placed {
    pub(crate) token: Token,
    pub(crate) line: u32,
    pub(crate) column: u32,
}
