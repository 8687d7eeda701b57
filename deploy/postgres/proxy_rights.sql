-- What the database user of `kiket serve --role proxy` needs, and no more: it reads, says that it is there, appends to the
-- audit log, notes uses, and raises the alerts that its own reads bring about. Run it as the owner of the tables, after an
-- instance with role `admin` has made them, and again after each upgrade.
GRANT SELECT ON ALL TABLES IN SCHEMA public TO kiket_proxy;
GRANT INSERT ON audit, alerts, outbox TO kiket_proxy;
GRANT INSERT, UPDATE ON chain_heads TO kiket_proxy;
GRANT UPDATE (last_used_at) ON secrets TO kiket_proxy;
GRANT UPDATE (last_used_at) ON tokens TO kiket_proxy;
GRANT INSERT, UPDATE, DELETE ON instances TO kiket_proxy;
