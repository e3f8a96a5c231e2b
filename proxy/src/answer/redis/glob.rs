//! Redis' glob patterns, ignoring case: `*`, `?`, `[a-z]`, `[^a]`, `\` to
//! escape. For names of settings and commands, not for keys.

/// Whether the whole `name` matches `pattern`.
///
/// Where a `*` fails it is tried one byte further on; only the last `*` can
/// need that, as an earlier one has already found its leftmost place. So the
/// cost is at most the product of both lengths, without recursion.
pub(super) fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p + 1, n));
            p += 1;
        } else if let Some(width) = one(&pattern[p..], name[n]) {
            p += width;
            n += 1;
        } else if let Some((behind, from)) = star {
            p = behind;
            n = from + 1;
            star = Some((behind, from + 1));
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|&byte| byte == b'*')
}

/// How many bytes of the pattern's beginning match this one byte, if they do.
fn one(pattern: &[u8], byte: u8) -> Option<usize> {
    match *pattern {
        [] => None,
        [b'?', ..] => Some(1),
        [b'[', ..] => class(pattern, byte),
        [b'\\', escaped, ..] => escaped.eq_ignore_ascii_case(&byte).then_some(2),
        [plain, ..] => plain.eq_ignore_ascii_case(&byte).then_some(1),
    }
}

/// A class in brackets; one that is never closed ends with the pattern.
fn class(pattern: &[u8], byte: u8) -> Option<usize> {
    let byte = byte.to_ascii_lowercase();
    let negated = pattern.get(1) == Some(&b'^');
    let mut at = if negated { 2 } else { 1 };
    let mut found = false;
    loop {
        match pattern[at..] {
            [] => break,
            [b']', ..] => {
                at += 1;
                break;
            }
            [b'\\', escaped, ..] => {
                found |= escaped.eq_ignore_ascii_case(&byte);
                at += 2;
            }
            [from, b'-', to, ..] => {
                let (from, to) = (from.to_ascii_lowercase(), to.to_ascii_lowercase());
                found |= (from.min(to)..=from.max(to)).contains(&byte);
                at += 3;
            }
            [plain, ..] => {
                found |= plain.eq_ignore_ascii_case(&byte);
                at += 1;
            }
        }
    }
    (found != negated).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns_match_as_in_redis() {
        for (pattern, name, expected) in [
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("max*", "maxmemory", true),
            ("*MEMORY*", "maxmemory-policy", true),
            ("max?emory", "maxmemory", true),
            ("[m-x]ax*y", "maxmemory", true),
            ("[^m]ax", "max", false),
            ("ma\\*", "max", false),
            ("ma\\*", "ma*", true),
            ("ma[", "max", false),
            ("*a*a*b", "aaaaaaaaaa", false),
            ("a\\", "a\\", true),
        ] {
            let found = matches(pattern.as_bytes(), name.as_bytes());
            assert_eq!(found, expected, "{pattern} {name}");
        }
    }
}
