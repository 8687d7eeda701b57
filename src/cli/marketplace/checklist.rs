//! What an installation still needs, as the server says it and as people read it.

use serde::Deserialize;
use serde_json::Value;

use crate::cli::table::{aligned, printable};
use crate::cli::{Exit, Failure};

/// An installation and its checklist.
#[derive(Debug, Deserialize)]
pub(super) struct Installed {
    pub(super) id: String,
    pub(super) extension_id: String,
    pub(super) organization_id: String,
    pub(super) project_id: String,
    pub(super) state: String,
    pub(super) checklist: Vec<Line>,
    #[serde(rename = "missing_extension_secrets")]
    pub(super) missing: Vec<String>,
    /// Nothing where the server is older than consents.
    #[serde(rename = "awaiting_consent", default)]
    pub(super) awaiting: Awaiting,
}

/// What an admin of the organization has to agree to.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Awaiting {
    pub(super) destination: Option<String>,
    pub(super) keys: Vec<UsedKey>,
}

/// A key and one use of it.
#[derive(Debug, Deserialize)]
pub(super) struct UsedKey {
    pub(super) key: String,
    pub(super) used_for: String,
}

impl Awaiting {
    /// What waits, in words for a table.
    pub(super) fn words(&self) -> Vec<String> {
        let destination = self.destination.iter().map(|url| printable(url));
        let keys = self.keys.iter().map(|used| printable(&used.key));
        destination.chain(keys).collect()
    }

    /// What waits, and the commands that agree to exactly that.
    fn told(&self, id: &str) -> String {
        let mut text = String::new();
        if let Some(destination) = &self.destination {
            let url = printable(destination);
            let quoted = url.replace('\'', r"'\''"); // what a partner wrote, for a shell to read as text
            text.push_str(&format!("\ndestination not confirmed, it gets no secrets: {url}\n"));
            text.push_str(&format!("  kiket marketplace confirm {id} --destination '{quoted}'\n"));
        }
        if !self.keys.is_empty() {
            let keys = self.keys.iter();
            let named: Vec<String> = keys
                .map(|used| format!("{} ({})", printable(&used.key), printable(&used.used_for)))
                .collect();
            text.push_str(&format!(
                "\nkeys not accepted, they are withheld: {}\n",
                named.join(", ")
            ));
            text.push_str(&format!("  kiket marketplace accept-keys {id}"));
            for used in &self.keys {
                text.push_str(&format!(
                    " --key {}:{}",
                    printable(&used.key),
                    printable(&used.used_for)
                ));
            }
            text.push('\n');
        }
        text
    }
}

/// One key of it.
#[derive(Debug, Deserialize)]
pub(super) struct Line {
    pub(super) key: String,
    pub(super) label: Option<String>,
    pub(super) required: bool,
    scope: String,
    pub(super) satisfied_by: Option<String>,
    pub(super) placeholder: bool,
}

impl Installed {
    pub(super) fn read(document: &Value) -> Result<Self, Failure> {
        Self::deserialize(document).map_err(|_| Failure {
            exit: Exit::Unavailable,
            reason: String::from("the server's checklist cannot be read; is it newer than this command?"),
        })
    }

    /// Whether somebody has something left to do: a required key without a value, a placeholder without one, or
    /// something to agree to.
    pub(super) fn exit(&self) -> Exit {
        let is_agreed = self.awaiting.words().is_empty();
        if self.missing.is_empty() && self.placeholders().next().is_none() && is_agreed {
            Exit::Fine
        } else {
            Exit::Finding
        }
    }

    pub(super) fn placeholders(&self) -> impl Iterator<Item = &Line> {
        self.checklist.iter().filter(|line| line.placeholder)
    }

    /// The checklist, and what to do next.
    pub(super) fn told(&self) -> String {
        let Self {
            id,
            extension_id,
            organization_id,
            project_id,
            state,
            ..
        } = self;
        let mut text = format!("{id}: {extension_id} in project {project_id} of {organization_id}, {state}\n");
        if self.checklist.is_empty() {
            text.push_str("it needs no secrets\n");
            text.push_str(&self.awaiting.told(id));
            return text;
        }
        text.push('\n');
        let headings = ["KEY", "NEEDED", "SET FOR", "VALUE", "LABEL"]
            .map(String::from)
            .to_vec();
        let rows = self.checklist.iter().map(Line::cells);
        text.push_str(&aligned(&std::iter::once(headings).chain(rows).collect::<Vec<_>>()));
        let open = self.open();
        if !open.is_empty() {
            text.push('\n');
        }
        for (what, keys) in open {
            text.push_str(&format!("{what}: {}\n", keys.join(", ")));
        }
        // What keeps it from being enabled comes first.
        let needed = self.checklist.iter().find(|line| self.missing.contains(&line.key));
        match needed.or_else(|| self.checklist.iter().find(|line| line.is_open())) {
            Some(line) => text.push_str(&format!("  {}\n", self.command_for(line))),
            None if state != "enabled" => {
                text.push_str(&format!("\nnothing is missing: kiket marketplace enable {id}\n"))
            }
            None => {}
        }
        text.push_str(&self.awaiting.told(id));
        text
    }

    fn open(&self) -> Vec<(&'static str, Vec<String>)> {
        let placeholders = self.placeholders().map(|line| line.key.clone()).collect();
        let lists = [
            ("missing", self.missing.clone()),
            ("placeholder, no value yet", placeholders),
        ];
        lists
            .into_iter()
            .filter(|(_, keys): &(_, Vec<_>)| !keys.is_empty())
            .collect()
    }

    fn command_for(&self, line: &Line) -> String {
        let (scope, id) = self.target(line);
        let (organization, key) = (&self.organization_id, &line.key);
        format!("kiket extensions secrets set --organization {organization} --scope {scope} --id {id} --key {key}")
    }

    /// Where a key's value belongs, as the manifest says.
    pub(super) fn target(&self, line: &Line) -> (&'static str, &str) {
        if line.is_shared() {
            ("extension", &self.extension_id)
        } else {
            self.own()
        }
    }

    /// Where the installation's own values are.
    pub(super) fn own(&self) -> (&'static str, &str) {
        ("extension_installation", &self.id)
    }
}

impl Line {
    /// Whether one value serves all projects of the organization.
    pub(super) fn is_shared(&self) -> bool {
        self.scope == "extension"
    }

    fn is_open(&self) -> bool {
        self.placeholder || (self.required && self.satisfied_by.is_none())
    }

    /// What people call the key.
    pub(super) fn name(&self) -> String {
        match &self.label {
            Some(label) => format!("{} ({})", self.key, printable(label)),
            None => self.key.clone(),
        }
    }

    /// Whose value is used.
    pub(super) fn using(&self) -> Option<String> {
        Some(match self.satisfied_by.as_deref()? {
            "extension_installation" => String::from("set for this installation"),
            "project" => String::from("using the project's credentials"),
            scope => format!("using organization-wide credentials ({scope})"),
        })
    }

    fn cells(&self) -> Vec<String> {
        let needed = if self.required { "required" } else { "optional" };
        let set_for = if self.is_shared() { "organization" } else { "project" };
        let value = match self.using() {
            Some(using) => using,
            None if self.placeholder => String::from("placeholder"),
            None if self.required => String::from("MISSING"),
            None => String::from("none"),
        };
        let label = self.label.as_deref().map(printable).unwrap_or_default();
        vec![self.key.clone(), needed.into(), set_for.into(), value, label]
    }
}
