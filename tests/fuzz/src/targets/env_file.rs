//! Whether a dotenv file means what is written in it, whichever way it is written.

use std::path::Path;

use secrecy::ExposeSecret;

use reader::{Entry, parse};

#[allow(dead_code, reason = "files are not read here")]
#[path = "../../../../src/cli/env_file.rs"]
mod reader;

/// Line, key and value.
type Pair = (usize, String, String);

/// Reads: a file.
pub fn hold(data: &[u8]) {
    let parsed = parse(data)
        .map(pairs)
        .map_err(|error| line_of(&error.in_file(Path::new("f"))));
    let Ok(text) = std::str::from_utf8(data) else {
        assert!(parsed.is_err());
        return;
    };
    if !text.contains(['\'', '"', '\0', '\u{feff}']) {
        assert_eq!(parsed, by_hand(text));
    }
    match parsed {
        Ok(pairs) => reads_back(text, &pairs),
        Err(line) => assert!((1..=text.lines().count().max(1)).contains(&line), "line {line}"),
    }
    if !text.contains('\0') {
        carries(text);
    }
}

/// Written anew with quotes, it says the same.
fn reads_back(text: &str, pairs: &[Pair]) {
    let keys: std::collections::BTreeSet<_> = pairs.iter().map(|(_, key, _)| key).collect();
    assert_eq!(keys.len(), pairs.len());
    let rising = pairs.iter().map(|(line, ..)| *line);
    assert!(rising.clone().zip(rising.clone().skip(1)).all(|(one, next)| one < next));
    assert!(rising.max().unwrap_or(1) <= text.lines().count().max(1));

    let again: String = pairs
        .iter()
        .map(|(_, key, value)| format!("{key}={}\n", quoted(value)))
        .collect();
    let again = parse(again.as_bytes())
        .map(self::pairs)
        .expect("quoted values can be read");
    let content = |pairs: &[Pair]| {
        pairs
            .iter()
            .map(|(_, key, value)| (key.clone(), value.clone()))
            .collect::<Vec<_>>()
    };
    assert_eq!(content(&again), content(pairs));
}

/// Any text at all is a value.
fn carries(text: &str) {
    let mut files = vec![format!("# first\nexport KEY = {} # last\nB=1", quoted(text))];
    if !text.contains('\'') {
        files.push(format!("KEY='{text}'\nB=1"));
    }
    for file in files {
        let entries = parse(file.as_bytes()).map(pairs).expect("quoted values can be read");
        let values: Vec<_> = entries
            .iter()
            .map(|(_, key, value)| (key.as_str(), value.as_str()))
            .collect();
        assert_eq!(values, [("KEY", text), ("B", "1")]);
    }
}

fn quoted(value: &str) -> String {
    let mut out = String::from("\"");
    for character in value.chars() {
        match character {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '"' | '\\' | '$' => out.extend(['\\', character]),
            other => out.push(other),
        }
    }
    out + "\""
}

fn pairs(entries: Vec<Entry>) -> Vec<Pair> {
    let pair = |entry: Entry| (entry.line, entry.key, entry.value.expose_secret().to_owned());
    entries.into_iter().map(pair).collect()
}

/// The line that an error names.
fn line_of(said: &str) -> usize {
    let (_, rest) = said.split_once("line ").expect("an error names the line");
    let (line, _) = rest.split_once(':').expect("and says what is wrong");
    line.parse().expect("the line is a number")
}

/// A file without quotes, line by line; the line that is wrong otherwise.
fn by_hand(text: &str) -> Result<Vec<Pair>, usize> {
    let mut pairs: Vec<Pair> = Vec::new();
    for (number, line) in (1..).zip(text.split('\n')) {
        if line.trim().is_empty() || line.trim().starts_with('#') {
            continue;
        }
        let (name, value) = line.split_once('=').ok_or(number)?;
        let words = name.trim();
        let key = match words.split_once([' ', '\t']) {
            Some(("export", key)) => key.trim(),
            _ => words,
        };
        let fits = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
        if key.is_empty() || !key.chars().all(fits) || pairs.iter().any(|(_, other, _)| other == key) {
            return Err(number);
        }
        // A comment begins the value, or stands behind a space.
        let spaced = value.replace('\t', " ");
        let value = if value.trim_start_matches([' ', '\t']).starts_with('#') {
            ""
        } else {
            spaced.find(" #").map_or(value, |at| &value[..at])
        };
        pairs.push((number, key.to_owned(), value.trim().to_owned()));
    }
    Ok(pairs)
}
