-- What an organization agreed to for an installation: a document that the row's `mac` covers. Rows without one are older
-- than consents; those of enabled installations get one at the next start of an instance that administers.
ALTER TABLE installations ADD COLUMN consent TEXT;
