//! Environment variables inside string values.
//!
//! `${NAME}` is the variable's value, `${NAME:-text}` has a text for when it
//! is not set or empty, `$${` is a literal `${`. Strings are expanded after
//! the file is parsed, so a value can never add a key or end a string, and
//! once: what a variable contains is not looked at again.

/// The text with every variable filled in, or what is wrong with it.
pub fn expand(text: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, tail) = rest.split_at(at);
        if let Some(before) = before.strip_suffix('$') {
            out.push_str(before);
            out.push_str("${");
            rest = &tail[2..];
            continue;
        }
        out.push_str(before);
        let inner = &tail[2..];
        let end = inner
            .find('}')
            .ok_or("`${` without `}`; write `$${` for a literal one")?;
        let (name, fallback) = match inner[..end].split_once(":-") {
            Some((name, fallback)) => (name, Some(fallback)),
            None => (&inner[..end], None),
        };
        check(name)?;
        let value = variable(name).filter(|value| !value.is_empty() || fallback.is_none());
        match (value, fallback) {
            (Some(value), _) => out.push_str(&value),
            (None, Some(fallback)) => out.push_str(fallback),
            (None, None) => {
                return Err(format!(
                    "the environment variable {name} is not set; `${{{name}:-text}}` gives a default"
                ));
            }
        }
        rest = &inner[end + 1..];
    }
    out.push_str(rest);
    Ok(out)
}

fn check(name: &str) -> Result<(), String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) || !name.chars().all(plain)
    {
        let shown: String = name.chars().take(64).collect();
        return Err(format!(
            "\"{shown}\" cannot be the name of an environment variable; write `$${{` for a literal `${{`"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_and_defaults() {
        let variable = |name: &str| match name {
            "HOST" => Some("redis-0".to_owned()),
            "EMPTY" => Some(String::new()),
            "NESTED" => Some("${HOST}".to_owned()),
            _ => None,
        };
        let check = |text: &str, expanded: &str| {
            assert_eq!(expand(text, &variable), Ok(expanded.to_owned()), "{text}");
        };
        check("", "");
        check("plain $HOST {}", "plain $HOST {}");
        check("${HOST}:6379", "redis-0:6379");
        check("${HOST}${HOST}", "redis-0redis-0");
        check("${PORT:-6379}", "6379");
        check("${PORT:-}", "");
        check("${EMPTY:-x}", "x");
        check("${EMPTY}", "");
        check("${NESTED}", "${HOST}");
        check("$${HOST}", "${HOST}");
        for bad in ["${", "${HOST", "${}", "${A B}", "${1}", "${MISSING}", "é${"] {
            assert!(expand(bad, &variable).is_err(), "{bad}");
        }
    }
}
