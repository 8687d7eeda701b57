//! What goes over the wire about API tokens.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::IdText;
use crate::store::TokenRow;

/// A token to make.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::admin) struct TokenInput {
    /// What people call it, 1 to 128 bytes.
    #[schema(min_length = 1, max_length = 128)]
    pub(in crate::admin) name: String,
    /// `platform_operator`, `org_admin`, `auditor` or `dispatcher`.
    #[schema(pattern = "^(platform_operator|org_admin|auditor|dispatcher)$")]
    pub(in crate::admin) role: String,
    /// Needed for `org_admin` and `auditor`, possible for `dispatcher`; the caller's own where left out.
    pub(in crate::admin) organization_id: Option<IdText>,
    /// RFC 3339, in the future.
    #[schema(format = DateTime)]
    pub(in crate::admin) expires_at: Option<String>,
}

/// A token without its text.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::admin) struct TokenObject {
    id: String,
    name: String,
    role: &'static str,
    organization_id: Option<String>,
    /// The name of the token that made it.
    created_by: String,
    created_at: String,
    expires_at: Option<String>,
    /// To the minute.
    last_used_at: Option<String>,
}

/// A token just made, with its text: it is shown this once.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::admin) struct MadeTokenObject {
    #[serde(flatten)]
    pub(in crate::admin) made: TokenObject,
    /// What goes behind `Authorization: Bearer`. `null` where an earlier answer is repeated: it is not kept.
    pub(in crate::admin) token: Option<String>,
}

impl From<&TokenRow> for TokenObject {
    fn from(row: &TokenRow) -> Self {
        Self {
            id: row.id.clone(),
            name: row.name.clone(),
            role: row.role.name(),
            organization_id: row.organization.as_ref().map(ToString::to_string),
            created_by: row.created_by.clone(),
            created_at: row.created_at.to_rfc3339(),
            expires_at: row.expires_at.map(|at| at.to_rfc3339()),
            last_used_at: row.last_used_at.map(|at| at.to_rfc3339()),
        }
    }
}
