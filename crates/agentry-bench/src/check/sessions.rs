//! The history of a conversation is linear: every accepted turn is in it once, in the order in which it was accepted.

/// Linearity of the history of a conversation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SessionReport {
    /// Accepted and not in the history.
    pub missing: u64,
    /// In the history more than once.
    pub repeated: u64,
    /// In the history and never sent.
    pub unexpected: u64,
    /// Pairs of neighbours in the history that were accepted the other way round.
    pub out_of_order: u64,
}

impl SessionReport {
    /// Whether it is linear and whole.
    pub fn is_valid(&self) -> bool {
        self.missing + self.repeated + self.unexpected + self.out_of_order == 0
    }
}

/// Compares the turns of a conversation, in the order in which the caller knows them to have been accepted, with its
/// history as the platform shows it.
pub fn check_session(accepted: &[String], history: &[String]) -> SessionReport {
    let at = |turn: &String| accepted.iter().position(|sent| sent == turn);
    let places: Vec<Option<usize>> = history.iter().map(at).collect();
    let known: Vec<usize> = places.iter().flatten().copied().collect();
    let mut once = known.clone();
    once.sort_unstable();
    once.dedup();
    SessionReport {
        missing: (accepted.len() - once.len()) as u64,
        repeated: (known.len() - once.len()) as u64,
        unexpected: (places.len() - known.len()) as u64,
        out_of_order: known.windows(2).filter(|pair| pair[1] < pair[0]).count() as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(text: &str) -> Vec<String> {
        text.chars().map(String::from).collect()
    }

    #[test]
    fn gaps_repeats_strangers_and_swaps_are_told_apart() {
        let check = |history| check_session(&turns("abcd"), &turns(history));
        assert!(check("abcd").is_valid());
        assert_eq!(check("abd").missing, 1);
        assert_eq!((check("abbcd").repeated, check("abbcd").out_of_order), (1, 0));
        assert_eq!(check("abxcd").unexpected, 1);
        assert_eq!(check("acbd").out_of_order, 1);
    }
}
