//! Redis' glob patterns: `*`, `?`, `[a-z]`, `[^a]`, `\` to escape.

/// Whether the whole of `text` matches `pattern`, byte for byte as Redis
/// 7.0's `stringmatchlen` decides it, quirks included: an unclosed class ends
/// with the pattern, and a class at the end of the text still runs.
///
/// On a mismatch only the *last* star is widened. An earlier star cannot help
/// where the last one failed, since whatever it would take more, the last one
/// can take as well: so the cost is at most the product of both lengths, not
/// exponential in the number of stars.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    if text.is_empty() {
        // Redis does not run its loop on an empty key, so no star is skipped;
        // a lone one it never asks.
        return pattern.is_empty() || pattern == b"*";
    }
    let (mut p, mut t) = (0, 0);
    // Where to go on when the last star takes one byte more.
    let mut widen: Option<(usize, usize)> = None;
    loop {
        let step = match pattern.get(p) {
            Some(b'*') => {
                widen = Some((p + 1, t));
                p += 1;
                continue;
            }
            None if t == text.len() => return true,
            None => None,
            Some(_) => text.get(t).and_then(|&byte| one(pattern, p, byte)),
        };
        match (step, widen) {
            (Some(next), _) => (p, t) = (next, t + 1),
            (None, Some((after, from))) if from < text.len() => {
                widen = Some((after, from + 1));
                (p, t) = (after, from + 1);
            }
            (None, _) => return false,
        }
    }
}

/// The same for names of settings and commands, whose case does not matter.
pub fn matches_name(pattern: &[u8], name: &[u8]) -> bool {
    matches(&pattern.to_ascii_lowercase(), &name.to_ascii_lowercase())
}

/// Match one byte against the element at `p`; where the pattern goes on.
fn one(pattern: &[u8], p: usize, byte: u8) -> Option<usize> {
    match pattern[p] {
        b'?' => Some(p + 1),
        b'[' => class(pattern, p + 1, byte),
        b'\\' if p + 1 < pattern.len() => (pattern[p + 1] == byte).then_some(p + 2),
        literal => (literal == byte).then_some(p + 1),
    }
}

/// Match one byte against the class whose `[` stands before `p`.
fn class(pattern: &[u8], mut p: usize, byte: u8) -> Option<usize> {
    let negated = pattern.get(p) == Some(&b'^');
    p += usize::from(negated);
    let mut found = false;
    loop {
        match (pattern.get(p), pattern.get(p + 1), pattern.get(p + 2)) {
            (Some(b'\\'), Some(&escaped), _) => {
                found |= escaped == byte;
                p += 2;
            }
            (Some(b']'), _, _) => break p += 1,
            (None, _, _) => break,
            (Some(&low), Some(b'-'), Some(&high)) => {
                found |= (low.min(high)..=low.max(high)).contains(&byte);
                p += 3;
            }
            (Some(&literal), _, _) => {
                found |= literal == byte;
                p += 1;
            }
        }
    }
    (found != negated).then_some(p)
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn matches_as_redis_does() {
        for (pattern, text, expected) in [
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("**", "", false),
            ("a*c", "abbbc", true),
            ("a*c", "abbbcd", false),
            ("h?llo", "hello", true),
            ("h[ae]llo", "hillo", false),
            ("h[^e]llo", "hallo", true),
            ("h[b-a]llo", "hallo", true),
            (r"h\*llo", "h*llo", true),
            (r"[\]]", "]", true),
            ("[abc", "b", true),
            ("a**b", "ab", true),
            (r"a\", r"a\", true),
        ] {
            assert_eq!(
                matches(pattern.as_bytes(), text.as_bytes()),
                expected,
                "{pattern} {text}"
            );
        }
    }

    #[test]
    fn many_stars_take_no_exponential_time() {
        let pattern = "a*".repeat(200) + "b";
        assert!(!matches(pattern.as_bytes(), "a".repeat(10_000).as_bytes()));
    }
}
