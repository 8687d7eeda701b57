//! Whether the fast twin says what the scalar one says: of every input, on every kind of lanes, at every offset.

use proptest::prelude::*;

use super::super::grammar::GrammarFound;
use super::super::lanes::{Cpu, Width};
use super::super::nesting::Nesting;
use super::super::planes::Payload;
use super::super::{Reads, Scan, ScanError, read, scalar};
use super::portable::{self, Portable};
use super::{json, judged};

/// The scalar twin's verdict, which the others share: all vector instructions that this machine has, and none.
pub(super) fn verdict_of_all(body: &[u8]) -> Result<Scan<'_>, ScanError> {
    verdict_reading(body, Reads::Ids)
}

/// The same where the runtime token is read, too.
pub(super) fn verdict_with_token(body: &[u8]) -> Result<Scan<'_>, ScanError> {
    verdict_reading(body, Reads::IdsAndToken)
}

fn verdict_reading(body: &[u8], reads: Reads) -> Result<Scan<'_>, ScanError> {
    let verdict = scalar::scan(body, reads);
    let text = || String::from_utf8_lossy(body);
    assert_eq!(read(body, reads), verdict, "{}", text());
    let fine = verdict.as_ref().ok();
    // Slow, and where there are vector instructions, long bodies are theirs.
    if body.len() < 1100 || Cpu::best().is_none() {
        let found = portable::run(Payload(body, reads));
        assert_eq!(found.as_ref(), fine, "portable: {}", text());
    }
    for width in [Width::Avx2, Width::Avx512] {
        if let Some(cpu) = Cpu::with(width) {
            let found = cpu.run(Payload(body, reads));
            assert_eq!(found.as_ref(), fine, "{width:?}: {}", text());
        }
    }
    verdict
}

/// As above, and a full parser agrees. For bodies that nest moderately and break no rule but the grammar's.
fn agreed(body: &[u8]) -> bool {
    let is_fine = verdict_of_all(body).is_ok();
    assert_eq!(is_fine, judged(body), "{}", String::from_utf8_lossy(body));
    is_fine
}

/// Around the ends of words, blocks and chunks: how long what stands before a sample is.
fn offsets() -> impl Iterator<Item = usize> {
    [64, 128, 512, 2048, 4096]
        .into_iter()
        .flat_map(|end: usize| end - 10..end + 2)
}

/// Puts a sample at an offset, once with space and once with a string before it.
fn placed(sample: &[u8], at: usize) -> [Vec<u8>; 2] {
    let string = format!("{{\"s\":[\"{}\",", "x".repeat(at - 9));
    let space = format!("{{\"s\":[{}", " ".repeat(at - 6));
    [string, space].map(|before| [before.as_bytes(), sample, b"]}"].concat())
}

#[test]
fn whatever_is_well_formed_is_so_at_every_offset() {
    for sample in [
        r#""\"\\\/\b\f\n\r\t""#,
        r#""\\\\\\\\\\\\""#,
        r#""\\\\\\\"""#,
        r#""\ud83d\ude00\ud800""#,
        r#""\\u12","\\\u00e9\\""#,
        "\"é日😀\u{7f}\u{2028}\"",
        "\"{}[]:,\"",
        "-0.5e+10,0,-0,1E5,12e-3,0e0,1.25",
        "true,false,null",
        "[ ] , { } , [ [ ] ]",
        r#"{"a":[1,{"b":2},"c"],"d":{"e":[]},"f":"g"}"#,
        r#"[{},{"a":{}},[],[[],1],"x",[2]]"#,
    ] {
        for at in offsets() {
            for body in placed(sample.as_bytes(), at) {
                assert!(agreed(&body), "{sample} at {at}");
            }
        }
    }
}

#[test]
fn whatever_is_not_well_formed_is_refused_at_every_offset() {
    let samples: &[&[u8]] = &[
        br#""\x""#,
        br#""\u12g4""#,
        br#""\u12""#,
        br#""\U0041""#,
        br#""\\\""#,
        br#"\"a""#,
        b"\"a\tb\"",
        b"\"a\x00b\"",
        b"\"a\x1fb\"",
        b"\"\\\n\"",
        b"1\x0c",
        b"\x00",
        b"\"\xff\"",
        b"\"\xc0\xaf\"",
        b"\"\xed\xa0\x80\"",
        b"\"\xf0\x9f\x98\"",
        b"\"\xc3",
        "1\u{a0}".as_bytes(),
        "\u{e9}".as_bytes(),
        b"01",
        b"-01",
        b"00",
        b"-",
        b"+1",
        b".5",
        b"1.",
        b"1.e5",
        b"1e",
        b"1e+",
        b"1e5.5",
        b"1e5e5",
        b"1.5.5",
        b"1ee5",
        b"1+2",
        b"1-2",
        b"1e5-",
        b"--1",
        b"1x",
        b"1a",
        b"0x1",
        b"1true",
        b"tru",
        b"truex",
        b"true1",
        b"tRue",
        b"True",
        b"nul",
        b"nulll",
        b"nulse",
        b"fals",
        b"falsee",
        b"falll",
        b"false-",
        b"e5",
        b"E5",
        b"NaN",
        b"true\"\"",
        b"\"\"1",
        b"1\"\"",
        b"\"\"\"\"",
        b"1 2",
        b",",
        b",1",
        b"1,",
        b"1,,2",
        b":",
        b"1:2",
        b"\"a\":1",
        b"1,\"a\":2",
        b"{\"a\"}",
        b"{\"a\":}",
        b"{\"a\":]}",
        b"{\"a\":1,}",
        b"{,}",
        b"{\"a\":1,2}",
        b"{\"a\":1,\"b\"}",
        b"{\"a\":1,\"b\",\"c\":1}",
        b"{\"a\":[],\"b\",\"c\":1}",
        b"{\"a\":[],2}",
        b"{\"a\":[],{}}",
        b"{\"a\":{},[]}",
        b"{\"a\" 1}",
        b"{\"a\"::1}",
        b"{\"a\":\"b\":1}",
        b"{1:2}",
        b"{{}:1}",
        b"{[]}",
        b"[{},\"b\":1]",
        b"[[],\"b\":1]",
        b"[[],1,\"b\":1]",
        b"[[]:1]",
        b"[}",
        b"{]",
        b"{\"a\":1]",
        b"[1}",
        b"[[]}",
        b"{}{}",
        b"[][]",
        b"[",
        b"{",
        b"]",
        b"}",
        b"]}",
        b"]},",
        b"]},{",
        b"]}]}",
        b"]}]}{[",
        b"\"",
        b"'a'",
        b"/**/",
    ];
    for sample in samples {
        for at in offsets() {
            for body in placed(sample, at) {
                assert!(!agreed(&body), "{} at {at}", String::from_utf8_lossy(sample));
            }
        }
    }
}

#[test]
fn a_document_is_read_alike_wherever_it_is_cut() {
    let member = r#""n":-12.5e-3,"s":"a\"\\\u00e9é","l":[true,false,null],"o":{"a":[{},[]],"b":""}"#;
    let whole = format!("{{\"x\":{{{}}} , {member}}}", [member; 20].join(",\n"));
    assert!(whole.len() > 1500);
    for end in 0..=whole.len() {
        assert_eq!(verdict_of_all(&whole.as_bytes()[..end]).is_ok(), end == whole.len());
    }
}

#[test]
fn white_space_is_no_document_and_changes_none() {
    for length in (0..1100).step_by(11) {
        let space = " \n\r\t".repeat(length / 4 + 1);
        assert!(!agreed(&space.as_bytes()[..length]));
        assert!(agreed(format!("{space}{{{space}}}{space}").as_bytes()));
        assert!(agreed(
            format!("{{\"a\"{space}:{space}[{space}1{space},2]{space}}}").as_bytes()
        ));
        for stray in [
            ",", ",\"}", ",\"a\"", "\"}", "}", ":", "1", "\"\"", "{}", ",{", "[", "\u{b}",
        ] {
            assert!(!agreed(format!("{{}}{space}{stray}").as_bytes()));
            assert!(!agreed(format!("{stray}{space}{{}}").as_bytes()));
        }
    }
}

#[test]
fn depth_is_bounded_alike_wherever_the_brackets_stand() {
    for (opening, closing, levels) in [
        ("[", "]", 1),
        ("{\"a\":", "}", 1),
        ("[{\"a\":", "}]", 2),
        ("[0,[", "],0]", 2),
        ("[[],[", "]]", 2),
        ("{\"a\":{},\"b\":{\"c\":", "},\"d\":1}", 2),
    ] {
        for count in (120 / levels..135 / levels).chain([1000]) {
            for space in [0, 1, 7, 64, 509] {
                let (opening, closing) = (opening.repeat(count), closing.repeat(count));
                let space = " ".repeat(space);
                let body = format!("{{{space}\"a\":{opening}{space}1{closing}}}");
                let expected = if count * levels < 128 {
                    Ok(())
                } else {
                    Err(ScanError::TooDeep)
                };
                assert_eq!(verdict_of_all(body.as_bytes()).map(drop), expected, "{body}");
                let open = format!("{{{space}\"a\":{opening}{space}1{}", closing.repeat(2));
                assert!(verdict_of_all(open.as_bytes()).is_err());
            }
        }
    }
}

#[test]
fn what_stands_in_a_container_is_judged_alike_however_long_ago_it_was_opened() {
    // As many brackets as are settled together, and the container's own before them.
    for count in 0..70 {
        for (element, separator) in [("[]", ","), ("{}", " , "), ("[{\"a\":[1]}]", ",")] {
            let elements = vec![element; count + 1];
            let list = elements.join(separator);
            let members = elements.join(",\"m\":");
            for (body, is_fine) in [
                (format!("{{\"l\":[{list},1]}}"), true),
                (format!("{{\"l\":[{list},\"b\"]}}"), true),
                (format!("{{\"l\":[{list},{{}}]}}"), true),
                (format!("{{\"l\":[{list},\"b\":1]}}"), false),
                (format!("{{\"l\":[{list},\"b\":[]]}}"), false),
                (format!("{{\"l\":[{list},1,\"b\":1]}}"), false),
                (format!("{{\"l\":[{list}}}}}"), false),
                (format!("{{\"l\":[{list},[}}}}"), false),
                (format!("{{\"l\":[[{list}],1]}}"), true),
                (format!("{{\"l\":[[{list}],\"b\":1]}}"), false),
                (format!("{{\"l\":{{\"m\":[{list}],\"b\":1}}}}"), true),
                (format!("{{\"l\":{{\"m\":[{list}],1}}}}"), false),
                (format!("{{\"m\":{members},\"b\":1}}"), true),
                (format!("{{\"m\":{members},\"b\":[{{}}]}}"), true),
                (format!("{{\"m\":{members},1}}"), false),
                (format!("{{\"m\":{members},\"b\"}}"), false),
                (format!("{{\"m\":{members},\"b\",\"c\":1}}"), false),
                (format!("{{\"m\":{members},{{}}}}"), false),
                (format!("{{\"m\":{members},[1]}}"), false),
                (format!("{{\"m\":{members}]"), false),
                (format!("{{\"m\":{members}}}]"), false),
                (format!("{{\"m\":{members}}},{{\"b\":1}}"), false),
            ] {
                assert_eq!(agreed(body.as_bytes()), is_fine, "{body}");
            }
        }
    }
}

#[test]
fn a_bracket_that_closes_nothing_is_refused() {
    for count in [1, 64, 65] {
        let mut found = GrammarFound::default();
        for closing in 0..count {
            found.closing[closing / 64] |= 1 << (closing % 64);
        }
        let mut nesting = Nesting::new();
        nesting.block::<Portable>(&found);
        assert_eq!(nesting.least_depth::<Portable>(), None);
    }
}

#[test]
fn backslashes_pair_up_across_words_and_blocks() {
    for before in [0, 1, 2, 50, 51, 440, 441] {
        for count in (0..140).chain(505..520) {
            let backslashes = "\\".repeat(count);
            let body = format!("{{\"s\":\"{}{backslashes}\"}}", "x".repeat(before));
            assert_eq!(agreed(body.as_bytes()), count % 2 == 0);
            let body = format!("{{\"s\":\"{}{backslashes}\"\"}}", "x".repeat(before));
            assert_eq!(agreed(body.as_bytes()), count % 2 == 1);
        }
    }
}

#[test]
fn a_string_is_ended_by_a_quote_alone_wherever_that_is() {
    let whole = format!("{{\"s\":\"{}\"}}", "x".repeat(6200));
    for at in (2030..2070).chain([3000]).chain(4080..4110).chain(6130..6160) {
        for (piece, is_fine) in [
            ("\"\"", false),
            ("\\\"", true),
            ("\\\\", true),
            ("\",", false),
            ("\n", false),
        ] {
            let mut body = whole.clone().into_bytes();
            body.splice(at..at + piece.len(), piece.bytes());
            assert_eq!(agreed(&body), is_fine, "{piece} at {at}");
        }
        let ended = [&whole.as_bytes()[..at], b"\"}"].concat();
        assert!(agreed(&ended));
        assert!(!agreed(&whole.as_bytes()[..at]));
    }
}

#[test]
fn a_member_that_is_read_is_found_however_far_from_either_end_it_is() {
    let lengths = [0, 500, 2000, 2048, 5000];
    for (before, after) in lengths.iter().flat_map(|before| lengths.map(|after| (*before, after))) {
        let long = |length: usize| format!("[{{\"id\":\"{}\"}}]", "x".repeat(length));
        let body = |member: &str| format!("{{\"b\":{},{member},\"a\":{}}}", long(before), long(after));
        let read = body("\"project_id\":\"p\"");
        let stated = verdict_of_all(read.as_bytes()).unwrap().stated;
        assert_eq!(stated.project_id.as_deref(), Some("p"));
        assert_eq!(stated.id, None);
        for (member, fault) in [
            ("\"secrets\":1", ScanError::Reserved),
            ("\"id\":[]", ScanError::WrongType),
            ("\"id\":1,\"id\":1", ScanError::Duplicate),
        ] {
            assert_eq!(verdict_of_all(body(member).as_bytes()), Err(fault));
        }
    }
}

#[test]
fn an_edited_byte_is_judged_alike_wherever_it_is() {
    let event =
        r#"{"at":"2026-11-24T08:15","n":{"id":-9.5e+1,"s":"Zoë \"Z\""},"f":[true,false,null,[]],"p":"\\u00e9"}"#;
    let whole = format!("{{\"id\":\"i\", \"payload\":[{}]}}", [event; 7].join(", "));
    assert!(agreed(whole.as_bytes()) && whole.len() > 700);
    // The second event, and the one that block and word ends cut.
    for at in (100..240).chain(490..530) {
        for byte in *b"{}[]:,\"\\ 0-.e+tn\x1f\x80" {
            let mut edited = whole.clone().into_bytes();
            edited[at] = byte;
            agreed(&edited);
        }
    }
}

/// Names at the top level and below: those that are read, those that are reserved, and what only looks like them.
fn name() -> impl Strategy<Value = String> {
    let names = [
        "id",
        "i\\u0064",
        "\\u0069d",
        "ID",
        "idx",
        "extension_installation_id",
        "organization_id",
        "project_id",
        "extension_id",
        "\\u0065xtension_id",
        "product_installation_id",
        "payload",
        "p",
        "",
        "\\ud800",
        "é",
        "secret",
    ];
    let reserved = prop::sample::select(vec!["secrets", "ſecret_status", "SECRET\\u0053"]);
    prop_oneof![
        30 => prop::sample::select(names.to_vec()).prop_map(str::to_owned),
        1 => reserved.prop_map(str::to_owned),
    ]
}

/// Objects with such members, long ones and empty ones among them.
fn object_with_names() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("17".to_owned()),
        Just("null".to_owned()),
        Just("{}".to_owned()),
        Just("\"a\"".to_owned()),
        Just("\"\\u0061\"".to_owned()),
        Just("1.5".to_owned()),
        (0usize..700).prop_map(|length| format!("\"{}\"", "x".repeat(length))),
        (0usize..90).prop_map(|count| format!("[0{}]", ",{},[[1]]".repeat(count))),
    ];
    let object = |value: BoxedStrategy<String>| {
        prop::collection::vec((name(), value), 0..5).prop_map(|members| {
            let members: Vec<_> = members
                .iter()
                .map(|(name, value)| format!("\"{name}\": {value}"))
                .collect();
            format!("{{{}}}", members.join(","))
        })
    };
    let inner = leaf.prop_recursive(3, 20, 5, move |inner| object(inner.boxed()));
    object(inner.boxed())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn members_are_read_alike_wherever_they_are(body in object_with_names()) {
        let _ = (verdict_of_all(body.as_bytes()), verdict_with_token(body.as_bytes()));
    }

    #[test]
    fn long_documents_are_judged_alike_whole_and_mutated(
        documents in prop::collection::vec(json(), 1..8),
        edits in prop::collection::vec(
            (
                any::<prop::sample::Index>(),
                prop::sample::select(b"{}[]:,\"\\ 0-.eEtrufalsn\x00\x1f\xc3\x80".to_vec()),
                0..4,
            ),
            1..4,
        ),
    ) {
        let whole = format!("{{\"documents\":[{}]}}", documents.join(","));
        prop_assert!(agreed(whole.as_bytes()));
        let mut edited = whole.into_bytes();
        for (at, byte, kind) in edits {
            let at = at.index(edited.len());
            match kind {
                0 => edited[at] = byte,
                1 => edited.insert(at, byte),
                2 => drop(edited.remove(at)),
                _ => edited.swap(at, at / 2),
            }
            agreed(&edited);
        }
    }

    #[test]
    fn any_bytes_are_judged_alike(bytes in prop::collection::vec(prop::sample::select(b"{}[]:,\"\\ 1\xc3\x80".to_vec()), 0..1500)) {
        let _ = (verdict_of_all(&bytes), verdict_with_token(&bytes));
        let _ = verdict_of_all(&[b"{\"a\":[", &bytes[..]].concat());
    }
}

proptest! {
    /// A reserved name is one however it is written.
    #[test]
    fn no_spelling_of_a_reserved_name_is_overlooked(
        status in any::<bool>(), spelling in prop::collection::vec(0..4, 13), before in 0usize..600,
    ) {
        let reserved = if status { "secret_status" } else { "secrets" };
        let name: String = reserved.chars().zip(spelling).map(|(letter, how)| match (how, letter) {
            (1, _) => letter.to_ascii_uppercase().to_string(),
            (2, _) => format!("\\u{:04x}", u32::from(letter)),
            (3, 's') => "ſ".to_owned(),
            _ => letter.to_string(),
        }).collect();
        let body = format!("{{\"a\":\"{}\",\"{name}\":1}}", "x".repeat(before));
        prop_assert_eq!(verdict_of_all(body.as_bytes()), Err(ScanError::Reserved));
    }
}
