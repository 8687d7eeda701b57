//! What a newcomer runs first: the demo ends well, tells all that it should, and shows no value.

use std::process::Command;

#[test]
fn the_demo_shows_a_delivery_with_keys_of_all_scopes_and_ends_well() {
    let output = Command::new(env!("CARGO_BIN_EXE_kiket"))
        .args(["demo", "--once"])
        .output()
        .unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success(),
        "{told}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    for place in [
        "from extension_installation, over organization",
        "from product_installation",
        "from extension, over extension (partner's default)",
        "from extension (partner's default)",
        "from project",
        "from organization",
        "secret_status.missing          [\"SMTP_PASSWORD\"]",
        "client certificate of \"dev sidecar of acme\"",
        "X-Kiket-Signature verifies",
        "100 warm deliveries made ",
        "landlock       active",
        "Everything is as it should be.",
    ] {
        assert!(told.contains(place), "{place}: {told}");
    }
    assert_eq!(told.matches("\n  ok  ").count(), 9, "{told}");
    assert!(!told.contains("  NO  ") && !told.contains("BEGIN"), "{told}");
}
