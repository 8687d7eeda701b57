//! What is accepted and what is refused: tables, and a full parser as the judge.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use proptest::prelude::*;
use serde::de::IgnoredAny;

use super::*;
use twins::{verdict_of_all, verdict_with_token};

mod operations;
mod portable;
mod twins;

fn verdict(text: &str) -> Result<(), ScanError> {
    verdict_of_all(text.as_bytes()).map(drop)
}

#[test]
fn one_object_is_accepted_whatever_surrounds_and_fills_it() {
    for text in [
        "{}",
        " \r\n\t{ } \n",
        r#"{"a":1}"#,
        r#"{"a":[1,-0.5e+10,0,1E5,true,false,null,"x",{},[],{"b":[[]]}]}"#,
        r#"{"lone":"\ud800","pair":"\ud83d\ude00","all":"\"\\\/\b\f\n\r\t\u00e9"}"#,
        "{\"text\":\"äöü \u{2028} 😀 \u{7f}\"}",
        r#"{"deeper":{"secrets":1,"SECRETS":2,"secret_status":3,"id":[]}}"#,
        r#"{"a":1,"a":2}"#,
        r#"{"ID":[1],"Id":{}}"#,
    ] {
        assert_eq!(verdict(text), Ok(()), "{text}");
    }
}

#[test]
fn what_is_not_one_object_is_malformed() {
    let long = format!("{{\"a\":\"{}\n\"}}", "x".repeat(100));
    for text in [
        "",
        " ",
        "}",
        "{",
        "[]",
        "[{}]",
        "1",
        "null",
        "\"a\"",
        "{}{}",
        "{} {}",
        "{}x",
        "{},",
        "\u{feff}{}",
        "{]",
        "{,}",
        r#"{"a"}"#,
        r#"{"a":}"#,
        r#"{"a":1,}"#,
        r#"{"a":1 "b":2}"#,
        r#"{a:1}"#,
        r#"{'a':1}"#,
        r#"{"a":01}"#,
        r#"{"a":1.}"#,
        r#"{"a":.5}"#,
        r#"{"a":+1}"#,
        r#"{"a":-}"#,
        r#"{"a":1e}"#,
        r#"{"a":1e+}"#,
        r#"{"a":0x1}"#,
        r#"{"a":tru}"#,
        r#"{"a":True}"#,
        r#"{"a":NaN}"#,
        r#"{"a":[1,]}"#,
        r#"{"a":[}]}"#,
        r#"{"a":{]}}"#,
        r#"{"a":"\x"}"#,
        r#"{"a":"\u12g4"}"#,
        r#"{"a":"\u12"}"#,
        "{\"a\":\"\t\"}",
        "{\"a\":\"\u{0}\"}",
        r#"{"a":"b}"#,
        "{\"a\":\u{a0}1}",
        "{/**/}",
        "{\"a\":1}//",
        r#"{"a":[1 2]}"#,
        r#"{"a":[[1]}"#,
        &long,
    ] {
        assert_eq!(verdict(text), Err(ScanError::Malformed), "{text}");
    }
    for bytes in [
        &b"{\"a\":\"\xff\"}"[..],
        b"{\"a\":\"\xc0\xaf\"}",
        b"{\"a\":\"\xed\xa0\x80\"}",
        b"\xef\xbb\xbf{}",
    ] {
        assert_eq!(verdict_of_all(bytes).map(drop), Err(ScanError::Malformed));
    }
}

#[test]
fn depth_is_bounded_and_the_outermost_object_is_the_first() {
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let nested = |n: usize| {
            let inner = if open == "[" { "" } else { "1" };
            format!("{{\"a\":{}{inner}{}}}", open.repeat(n), close.repeat(n))
        };
        assert_eq!(verdict(&nested(127)), Ok(()));
        assert_eq!(verdict(&nested(128)), Err(ScanError::TooDeep));
        assert_eq!(verdict(&nested(100_000)), Err(ScanError::TooDeep));
    }
    let empty_objects = format!("{{\"a\":{}{{}}{}}}", "[".repeat(127), "]".repeat(127));
    assert_eq!(verdict(&empty_objects), Err(ScanError::TooDeep));
}

#[test]
fn names_that_a_receiver_could_take_for_the_inserted_ones_are_reserved() {
    for name in [
        "secrets",
        "SECRETS",
        "Secrets",
        "\\u0073ecrets",
        "ſecrets",
        "secretſ",
        "\\u017fecrets",
        "secret_status",
        "SECRET_STATUS",
        "ſecret_ſtatuS",
        "secret\\u005fstatus",
    ] {
        assert_eq!(
            verdict(&format!("{{\"a\":1,\"{name}\":null}}")),
            Err(ScanError::Reserved),
            "{name}"
        );
        assert_eq!(verdict(&format!("{{\"a\":{{\"{name}\":null}}}}")), Ok(()), "{name}");
    }
    for name in [
        "secret",
        "secrets ",
        "secretss",
        "secret-status",
        "\\ud800ecrets",
        "śecrets",
    ] {
        assert_eq!(verdict(&format!("{{\"{name}\":null}}")), Ok(()), "{name}");
    }
}

#[test]
fn stated_ids_are_read_as_text_integer_or_nothing() {
    let body = r#"{"id":17,"extension_installation_id":"ins_\u0037","organization_id":null,
        "project_id":"p","x":{"project_id":"other"},"\u0065xtension_id":"com.e","product_installation_id":-3}"#;
    let stated = verdict_of_all(body.as_bytes()).unwrap().stated;
    assert_eq!(stated.id.as_deref(), Some("17"));
    assert_eq!(stated.extension_installation_id.as_deref(), Some("ins_7"));
    assert_eq!(stated.organization_id, None);
    assert_eq!(stated.project_id.as_deref(), Some("p"));
    assert_eq!(stated.extension_id.as_deref(), Some("com.e"));
    assert_eq!(stated.product_installation_id.as_deref(), Some("-3"));
    for wrong in ["1.0", "1e3", "true", "[]", "{}", r#""\ud800""#] {
        assert_eq!(
            verdict(&format!("{{\"project_id\":{wrong}}}")),
            Err(ScanError::WrongType),
            "{wrong}"
        );
    }
    for twice in [
        r#"{"id":1,"id":1}"#,
        r#"{"id":null,"\u0069d":1}"#,
        r#"{"project_id":"a","project_id":null}"#,
    ] {
        assert_eq!(verdict(twice), Err(ScanError::Duplicate), "{twice}");
    }
}

/// Long enough for the fast twin, with what is read after a token and before it.
fn vouched(authentication: &str) -> [String; 3] {
    let filler = format!("\"a\":[\"{}\"]", "x".repeat(600));
    [
        format!("{{\"authentication\" : {authentication}}}"),
        format!("{{{filler},\"authentication\":{authentication},\"id\":1}}"),
        format!("{{\"id\":1,\"\\u0061uthentication\":{authentication}, {filler}}}"),
    ]
}

#[test]
fn a_runtime_token_is_read_where_it_is_asked_for_and_nowhere_else() {
    for (authentication, token) in [
        (r#"{"runtime_token":"a.b-c_d.e"}"#, Some("a.b-c_d.e")),
        (
            r#"{ "scopes" : [ {"runtime_token":"x"} , 1 ] , "runtime_token" : "t" , "z":{} } "#,
            Some("t"),
        ),
        (r#"{"runtime\u005ftoken":"\u0074\/"}"#, Some("t/")),
        (r#"{"a":{"runtime_token":"x"},"runtime_token":null}"#, None),
        (r#"{"RUNTIME_TOKEN":"x","runtime_tokens":["x"]}"#, None),
        ("{}", None),
        (" { } ", None),
        ("null", None),
    ] {
        for text in vouched(authentication) {
            let found = verdict_with_token(text.as_bytes()).unwrap();
            let read = found.stated.runtime_token.as_ref().map(PresentedToken::as_str);
            assert_eq!(read, token, "{text}");
            let unread = verdict_of_all(text.as_bytes()).unwrap();
            assert_eq!(unread.stated.runtime_token, None, "{text}");
            assert_eq!((unread.insert_at, unread.stated.id), (found.insert_at, found.stated.id));
        }
    }
    let deeper = format!(
        "{{\"a\":{{\"authentication\":{{\"runtime_token\":\"x\"}}}},\"runtime_token\":\"x\",\"b\":\"{}\"}}",
        "x".repeat(600)
    );
    assert_eq!(verdict_with_token(deeper.as_bytes()).unwrap().stated, Stated::default());
}

#[test]
fn what_surrounds_a_runtime_token_is_held_to_the_rules_of_members_that_are_read() {
    for (authentication, fault) in [
        (r#"{"runtime_token":"a","runtime_token":"a"}"#, ScanError::Duplicate),
        (
            r#"{"runtime_token":null,"runtime\u005ftoken":"a"}"#,
            ScanError::Duplicate,
        ),
        (r#"null,"authentication":null"#, ScanError::Duplicate),
        (r#"{},"\u0061uthentication":{}"#, ScanError::Duplicate),
        (r#"{"runtime_token":1}"#, ScanError::WrongType),
        (r#"{"runtime_token":["a"]}"#, ScanError::WrongType),
        (r#"{"runtime_token":true}"#, ScanError::WrongType),
        (r#"{"runtime_token":"\ud800"}"#, ScanError::WrongType),
        (r#""a.b.c""#, ScanError::WrongType),
        ("[]", ScanError::WrongType),
        ("7", ScanError::WrongType),
        ("false", ScanError::WrongType),
    ] {
        for text in vouched(authentication) {
            assert_eq!(verdict_with_token(text.as_bytes()).map(drop), Err(fault), "{text}");
            assert_eq!(verdict_of_all(text.as_bytes()).map(drop), Ok(()), "{text}");
        }
    }
    for authentication in [
        "{",
        r#"{"runtime_token"}"#,
        r#"{"runtime_token":}"#,
        r#"{"runtime_token":"a",}"#,
        r#"{"runtime_token":"a" "b":1}"#,
        r#"{"runtime_token":"a"]"#,
        r#"{,}"#,
        r#"{"a":tru}"#,
        "nul",
        "nulll",
        "{\"runtime_token\":\"\t\"}",
    ] {
        for text in vouched(authentication) {
            for verdict in [verdict_with_token, verdict_of_all] {
                assert_eq!(verdict(text.as_bytes()).map(drop), Err(ScanError::Malformed), "{text}");
            }
        }
    }
    let nested = |n: usize| format!("{{\"a\":{}{}}}", "[".repeat(n), "]".repeat(n));
    for text in vouched(&nested(126)) {
        assert_eq!(verdict_with_token(text.as_bytes()).map(drop), Ok(()));
    }
    for text in vouched(&nested(127)) {
        assert_eq!(verdict_with_token(text.as_bytes()).map(drop), Err(ScanError::TooDeep));
    }
}

#[test]
fn a_presented_token_is_not_printed() {
    let found = verdict_with_token(br#"{"authentication":{"runtime_token":"canary"}}"#).unwrap();
    let printed = format!("{found:?}");
    assert!(
        printed.contains("PresentedToken(..)") && !printed.contains("canary"),
        "{printed}"
    );
}

#[test]
fn the_insertion_point_is_the_last_brace() {
    for (text, insert_at, is_empty) in [
        ("{}", 1, true),
        (" { } ", 3, true),
        ("{\"a\":{}} ", 7, false),
        ("{\"a\":\"}\"\n}", 9, false),
    ] {
        let found = verdict_of_all(text.as_bytes()).unwrap();
        assert_eq!((found.insert_at, found.is_empty), (insert_at, is_empty), "{text}");
        assert_eq!(text.as_bytes()[found.insert_at], b'}');
    }
}

/// Documents of a shape that reaches every rule.
fn json() -> impl Strategy<Value = String> {
    let text = "([a-zA-Z0-9 äß😀]|\\\\n|\\\\u00e9|\\\\\"){0,40}";
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        "-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,5})?([eE][+-]?[0-9]{1,3})?",
        text.prop_map(|text| format!("\"{text}\"")),
    ];
    let space = "[ \\n\\t\\r]{0,2}";
    let value = leaf.prop_recursive(6, 60, 6, move |inner| {
        let list = (prop::collection::vec(inner.clone(), 0..5), space)
            .prop_map(|(items, space)| format!("[{space}{}{space}]", items.join(&format!("{space},"))));
        let members = prop::collection::vec(("[a-z]{0,6}", inner), 0..5);
        let map = (members, space).prop_map(|(members, space)| {
            let members: Vec<_> = members
                .iter()
                .map(|(name, value)| format!("\"{name}\"{space}:{value}"))
                .collect();
            format!("{{{space}{}{space}}}", members.join(","))
        });
        prop_oneof![list, map]
    });
    prop::collection::vec(("[a-z]{0,6}_", value), 0..6).prop_map(|members| {
        let members: Vec<_> = members
            .iter()
            .map(|(name, value)| format!("\"{name}\": {value}"))
            .collect();
        format!(" {{{}}} ", members.join(", "))
    })
}

/// What a full parser says of bytes that nest moderately and read no member.
fn judged(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return false;
    };
    text.trim_start_matches([' ', '\n', '\r', '\t']).starts_with('{')
        && serde_json::from_str::<IgnoredAny>(text).is_ok()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn generated_documents_are_accepted(text in json()) {
        prop_assert_eq!(verdict(&text), Ok(()));
    }

    #[test]
    fn a_mutated_document_is_judged_as_a_full_parser_judges_it(
        text in json(), at in any::<prop::sample::Index>(), byte in prop::sample::select(b"{}[]:,\"\\ 0-.eEtfnua\x00\xc3\x80".to_vec()),
        kind in 0..3,
    ) {
        let mut bytes = text.into_bytes();
        let at = at.index(bytes.len());
        match kind {
            0 => bytes[at] = byte,
            1 => bytes.insert(at, byte),
            _ => drop(bytes.remove(at)),
        }
        let accepted = verdict_of_all(&bytes).is_ok();
        prop_assert_eq!(accepted, judged(&bytes), "{:?}", String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn a_cut_document_is_refused(text in json()) {
        let whole = text.trim_end();
        for end in 0..whole.len() {
            prop_assert!(scan(&whole.as_bytes()[..end]).is_err());
            if end % 64 == whole.len() % 64 {
                prop_assert!(verdict_of_all(&whole.as_bytes()[..end]).is_err());
            }
        }
    }

    #[test]
    fn a_string_is_read_alike_at_every_length(length in 0usize..200, special in prop::sample::select(vec!["\\n", "\n", "\"", "é"])) {
        let text = format!("{{\"a\":\"{}{special}{}\"}}", "x".repeat(length), "y".repeat(40));
        prop_assert_eq!(verdict(&text).is_ok(), judged(text.as_bytes()));
    }
}
