//! "Did you mean": the known name that a mistyped one is closest to.

/// The closest of `known`, if it is close enough to be what was meant.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Comparing costs the product of both lengths, and a name comes from the
    // file; nobody mistypes a longer one.
    if name.len() > 64 {
        return None;
    }
    let lower = name.to_lowercase();
    let near = |known: &'a str| {
        let distance = strsim::damerau_levenshtein(&lower, &known.to_lowercase());
        let enough = known.chars().count().max(3) / 3;
        // Of two that are as close, the one that begins alike.
        let common = |(a, b): &(char, char)| a == b;
        let alike = lower.chars().zip(known.chars()).take_while(common).count();
        (distance <= enough).then_some((distance, std::cmp::Reverse(alike), known))
    };
    let known = known.into_iter().filter(|known| known.len() <= 64);
    let best = known.filter_map(near).min();
    best.map(|(.., known)| known)
}

/// The hint to print, if there is a name that comes close.
pub fn did_you_mean<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    nearest(name, known).map(|known| format!("did you mean `{known}`?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn close_names_are_found_and_distant_ones_are_not() {
        let known = ["hash", "hash_tag", "servers", "route"];
        assert_eq!(nearest("hsah", known), Some("hash"));
        assert_eq!(nearest("Servers", known), Some("servers"));
        assert_eq!(nearest("server", known), Some("servers"));
        assert_eq!(nearest("timeout", known), None);
        assert_eq!(
            nearest("fnv1a64", ["fnv1_64", "fnv1a_64"]),
            Some("fnv1a_64")
        );
        assert_eq!(nearest(&"s".repeat(100_000), known), None);
    }
}
