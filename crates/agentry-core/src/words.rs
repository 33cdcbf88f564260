//! Enums whose values have one name each: in files, URLs, database columns and metrics.

/// Text that names no value of an enum.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown {kind} `{text}`: expected one of {expected}")]
pub struct UnknownWord {
    /// The enum, in words: `status`.
    pub kind: &'static str,
    /// The text.
    pub text: String,
    /// The names of all values, separated by commas.
    pub expected: String,
}

/// Declares such an enum. Numbers count from 0, in the order of declaration; databases store them.
macro_rules! words {
    (
        $(#[$meta:meta])*
        pub enum $name:ident: $kind:literal { $( $(#[$doc:meta])* $variant:ident = $word:literal ),* $(,)? }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
        pub enum $name { $( $(#[$doc])* #[serde(rename = $word)] $variant ),* }

        impl $name {
            /// Every value, in the order of their numbers.
            pub const ALL: [Self; [$($word),*].len()] = [$(Self::$variant),*];

            /// Returns the name used in files, URLs, columns and metrics.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $( Self::$variant => $word ),* }
            }

            /// Returns the value with this number.
            #[must_use]
            pub fn from_number(number: u8) -> Option<Self> {
                Self::ALL.get(usize::from(number)).copied()
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = crate::words::UnknownWord;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::ALL.into_iter().find(|value| value.as_str() == text).ok_or_else(|| crate::words::UnknownWord {
                    kind: $kind,
                    text: text.to_owned(),
                    expected: [$($word),*].join(", "),
                })
            }
        }
    };
}

pub(crate) use words;

#[cfg(test)]
mod tests {
    use crate::access::Scope;
    use crate::agent::ExecutionMode;
    use crate::task::{ErrorCode, TaskStatus};

    #[test]
    fn names_and_numbers_round_trip() {
        for status in TaskStatus::ALL {
            assert_eq!(TaskStatus::from_number(status as u8), Some(status));
            assert_eq!(status.as_str().parse(), Ok(status));
            assert_eq!(serde_json::to_value(status).unwrap(), status.as_str());
        }
        for scope in Scope::ALL {
            assert_eq!((Scope::from_number(scope as u8), scope.as_str().parse()), (Some(scope), Ok(scope)));
        }
        assert_eq!(TaskStatus::from_number(7), None);
        assert_eq!(ErrorCode::BudgetExhausted.to_string(), "budget_exhausted");
        let error = "fast".parse::<ExecutionMode>().unwrap_err().to_string();
        assert_eq!(error, "unknown mode `fast`: expected one of autonomous, continuous, collaborative, scheduled");
    }
}
