-- Records each migration in schema_version, and words the comments of all tables anew.
--
-- Locks: SHARE UPDATE EXCLUSIVE on every table, which purchases do not wait for; ACCESS EXCLUSIVE on schema_version, at the end.
-- Rewrites: nothing.
-- Safe: yes
-- PGOPTIONS='-c lock_timeout=200ms' psql -1 -v ON_ERROR_STOP=1 -f sql/migrations/0006_record_migrations.sql
COMMENT ON TABLE shop IS 'Facts about the shop that are fixed when the schema is created. Always one row.';
COMMENT ON COLUMN shop.id IS 'Always 1, so that there is only one row.';
COMMENT ON COLUMN shop.currency IS 'ISO 4217 code of the currency of every amount in this database.';
COMMENT ON COLUMN shop.minor_digits IS 'Digits after the decimal point in this currency: 2 for USD, 0 for JPY, 3 for KWD.';
COMMENT ON COLUMN shop.instance_id
IS 'Identifies this database. Cache keys contain it, so that databases that share a Redis do not share entries.';
COMMENT ON CONSTRAINT shop_currency_iso_4217 ON shop IS 'The form only. The service checks that ISO 4217 has the code.';
COMMENT ON DOMAIN amount IS 'Money in the currency of the shop: exact, not negative, at most the minor digits of the currency.';
COMMENT ON CONSTRAINT amount_range ON DOMAIN amount
IS 'Also rejects NaN, which sorts above every number. The upper bound is far above any invoice.';
COMMENT ON CONSTRAINT amount_minor_digits ON DOMAIN amount IS 'Fractions of the smallest coin are rejected, not rounded.';
COMMENT ON FUNCTION refuse_change()
IS 'Trigger function: rejects the change. Keeps the books append-only, also for the owner, who can only TRUNCATE them.';
COMMENT ON TABLE users
IS 'Everyone who can log in, or once could. Rows are never deleted, because invoices refer to them; erasing an account '
'removes its personal data.';
COMMENT ON COLUMN users.id IS 'Never reused. The sub claim of access tokens.';
COMMENT ON COLUMN users.role IS 'user: a customer. admin: also manages the catalogue, accounts and invoices.';
COMMENT ON COLUMN users.active
IS 'false: disabled by an admin, or erased. The account cannot log in, and its tokens are rejected.';
COMMENT ON COLUMN users.token_version IS 'Increased to end all sessions of the account: on a new password, disabling or erasure.';
COMMENT ON COLUMN users.erased_at IS 'When the owner deleted the account; NULL if it was not deleted.';
COMMENT ON CONSTRAINT users_email_form ON users
IS 'A minimal check; 254 characters is the limit of RFC 5321. The service checks the rest.';
COMMENT ON CONSTRAINT users_password_is_a_hash ON users
IS 'Argon2id as a PHC string with a bounded cost. Rejects plain-text passwords, and hashes that take minutes to verify.';
COMMENT ON CONSTRAINT users_whole_or_erased ON users
IS 'An account has an email and a password, or it is erased: nothing personal left, not an admin, not active.';
COMMENT ON INDEX users_email_key
IS 'One account per email address, whatever its case or Unicode composition. Login looks accounts up by it.';
COMMENT ON INDEX users_active_admins IS 'Finds the other active admins without scanning all customers.';
COMMENT ON TRIGGER users_stay ON users IS 'Accounts are erased by an UPDATE, never deleted, because the books refer to them.';
COMMENT ON TRIGGER users_ended_stays_ended ON users
IS 'An erased account cannot be restored, and token_version cannot decrease, which would make revoked tokens valid again.';
COMMENT ON TABLE sessions
IS 'Login sessions. A session is live if it has not ended or expired, its user is active and its token_version is still '
'that of the user.';
COMMENT ON COLUMN sessions.id IS 'Never reused. The sid claim of access tokens.';
COMMENT ON COLUMN sessions.user_id IS 'The account that logged in.';
COMMENT ON COLUMN sessions.token_version IS 'token_version of the user at login.';
COMMENT ON COLUMN sessions.address IS 'Client address at login; NULL if unknown.';
COMMENT ON COLUMN sessions.created_at IS 'Time of the login. No refresh extends the session beyond 365 days after it.';
COMMENT ON COLUMN sessions.expires_at
IS 'When its refresh token expires. Each refresh extends it, up to 365 days after the login.';
COMMENT ON COLUMN sessions.ended_at IS 'When the session was ended early; NULL while it is live, and if it simply expired.';
COMMENT ON COLUMN sessions.end_reason IS 'logout; or reuse: a refresh token was used twice, so it may be stolen.';
COMMENT ON CONSTRAINT sessions_ended_whole ON sessions IS 'An ended session has a reason; any other has none.';
COMMENT ON INDEX sessions_of_user IS 'Sessions of one account.';
COMMENT ON INDEX sessions_age IS 'For the purge of sessions that expired long ago.';
COMMENT ON TRIGGER sessions_ended_stays_ended ON sessions IS 'A session that was ended cannot be revived.';
COMMENT ON TABLE refresh_tokens IS 'Refresh tokens of sessions, used and unused. Only the newest token of a session is unused.';
COMMENT ON COLUMN refresh_tokens.token_hash IS 'SHA-256 of the token, which has 256 random bits. The token itself is not stored.';
COMMENT ON COLUMN refresh_tokens.session_id IS 'The session that the token extends.';
COMMENT ON COLUMN refresh_tokens.created_at IS 'When the token was issued.';
COMMENT ON COLUMN refresh_tokens.used_at IS 'When it was exchanged for the next token; NULL for the newest.';
COMMENT ON CONSTRAINT refresh_tokens_hash_sha256 ON refresh_tokens
IS 'SHA-256 has 32 bytes: a token in plain text does not get in by mistake.';
COMMENT ON INDEX refresh_tokens_of_session IS 'Finds the tokens to delete with their session (ON DELETE CASCADE).';
COMMENT ON INDEX refresh_tokens_used IS 'For the purge of tokens that were used long ago.';
COMMENT ON TABLE audit_log
IS 'Who changed what and when: ids and column names, never values. Append-only; written by triggers, whoever changes a row.';
COMMENT ON COLUMN audit_log.id IS 'Increasing. For overlapping transactions, its order can differ from that of created_at.';
COMMENT ON COLUMN audit_log.actor_id IS 'The user who made the change; NULL for a change made in SQL or at the command line.';
COMMENT ON COLUMN audit_log.subject_id IS 'Id of the row that was changed.';
COMMENT ON COLUMN audit_log.fields IS 'Names of the columns that an update changed.';
COMMENT ON CONSTRAINT audit_log_action_form ON audit_log
IS 'Subject, dot, verb: user.update. The form has no room for personal values.';
COMMENT ON INDEX audit_log_of_actor IS 'Actions of one user by time.';
COMMENT ON INDEX audit_log_of_action IS 'Entries with one action by time, however rare they are.';
COMMENT ON INDEX audit_log_of_account IS 'Changes made to one account.';
COMMENT ON TRIGGER audit_log_stay ON audit_log IS 'The log is append-only.';
COMMENT ON TABLE audit_addresses
IS 'Client addresses of audit log entries. A separate table, so that they can be erased: with the account, or after 90 days.';
COMMENT ON COLUMN audit_addresses.audit_id IS 'The entry that the address belongs to.';
COMMENT ON COLUMN audit_addresses.created_at IS 'Same as created_at of the entry. The row is deleted 90 days later.';
COMMENT ON COLUMN audit_addresses.address IS 'Client address of the request, as reported by the trusted proxies.';
COMMENT ON INDEX audit_addresses_age IS 'For the purge of addresses older than 90 days.';
COMMENT ON FUNCTION begin_request(jsonb)
IS 'Called first in each transaction of the service that writes. Takes {"actor_id", "address"} for the audit log. '
'Locks the row of the actor, so that the account cannot be erased during the request.';
COMMENT ON FUNCTION record_audit()
IS 'Trigger function: writes one row of the audit log per changed row. The argument of the trigger is the action.';
COMMENT ON TRIGGER users_create_audit ON users
IS 'Logs registrations through the service; of accounts created in SQL, only admins.';
COMMENT ON TRIGGER users_update_audit ON users IS 'Logs that role, active, email or password changed, without the values.';
COMMENT ON TRIGGER users_erase_audit ON users IS 'Logs an erasure as an action of its own.';
COMMENT ON TRIGGER sessions_start_audit ON sessions IS 'Logs logins through the service.';
COMMENT ON TRIGGER sessions_end_audit ON sessions
IS 'Logs logouts, and sessions that were ended because a refresh token was used twice.';
COMMENT ON TABLE products IS 'Products that are or were on sale. A deleted product keeps its row, because invoices refer to it.';
COMMENT ON COLUMN products.id IS 'Never reused. The catalogue is listed, and purchases lock products, in this order.';
COMMENT ON COLUMN products.name IS 'Current name. An invoice keeps the name at the time of purchase.';
COMMENT ON COLUMN products.price IS 'Current price of one piece. An invoice keeps the price at the time of purchase.';
COMMENT ON COLUMN products.stock
IS 'Pieces that can be sold now. Every change, also one made in psql, is recorded in stock_movements.';
COMMENT ON COLUMN products.version IS 'Increases with each edit by an admin, not with purchases. Used to detect edit conflicts.';
COMMENT ON COLUMN products.created_at IS 'When the product was added to the catalogue.';
COMMENT ON COLUMN products.updated_at IS 'Time of the last edit by an admin. Purchases do not change it.';
COMMENT ON COLUMN products.deleted_at IS 'When the product was deleted; NULL while it is on sale.';
COMMENT ON CONSTRAINT products_name_trimmed ON products IS 'No spaces at the ends: names that look the same are the same.';
COMMENT ON CONSTRAINT products_price_range ON products
IS 'At most 999,999,999: a line of a million pieces still fits into the domain amount.';
COMMENT ON CONSTRAINT products_stock_range ON products IS 'Never negative: the last guard against overselling.';
COMMENT ON INDEX products_on_sale IS 'Pages of the catalogue, without scanning deleted products.';
COMMENT ON TRIGGER products_create_audit ON products
IS 'Logs products created through the service. Those created in SQL are only in stock_movements.';
COMMENT ON TRIGGER products_update_audit ON products
IS 'Logs edits of name, price or version, and the restoring of a deleted product.';
COMMENT ON TRIGGER products_delete_audit ON products IS 'Logs a deletion as an action of its own.';
COMMENT ON TABLE invoice_statuses IS 'The statuses that an invoice can have.';
COMMENT ON COLUMN invoice_statuses.status IS 'In lower case, as the API shows it.';
COMMENT ON CONSTRAINT invoice_statuses_form ON invoice_statuses IS 'One word of at most 20 lower-case letters.';
COMMENT ON TABLE invoice_transitions
IS 'Allowed changes of status; they are defined only here. A status that no row leaves is final.';
COMMENT ON COLUMN invoice_transitions.from_status IS 'Status before the change.';
COMMENT ON COLUMN invoice_transitions.to_status IS 'Status after the change.';
COMMENT ON COLUMN invoices.id IS 'Identifies the invoice in the API. Has gaps, unlike number.';
COMMENT ON COLUMN invoices.number
IS 'Assigned when the invoice is paid; without gaps in its UTC year (see number_series), such as 2026-000001.';
COMMENT ON COLUMN invoices.user_id IS 'The buyer. Only the buyer and admins can see the invoice.';
COMMENT ON COLUMN invoices.status IS 'Current status. Changed by an UPDATE, which a trigger checks against invoice_transitions.';
COMMENT ON COLUMN invoices.total IS 'Sum of the line totals. Never changes.';
COMMENT ON COLUMN invoices.created_at IS 'Time of the purchase. The year in number is that of the payment, not of the purchase.';
COMMENT ON CONSTRAINT invoices_number_since_paid ON invoices
IS 'Every invoice that was ever paid has a number. Unpaid and cancelled invoices use none up.';
COMMENT ON INDEX invoices_of_user IS 'Invoices of one customer by time.';
COMMENT ON INDEX invoices_age IS 'Invoices of all customers by time.';
COMMENT ON INDEX invoices_of_status IS 'Invoices with one status by time, such as unpaid ones, oldest first.';
COMMENT ON TRIGGER invoices_stay ON invoices IS 'Invoices are cancelled or credited, never deleted.';
COMMENT ON TRIGGER invoices_amount_fixed ON invoices IS 'The total never changes, and neither does a number once it is assigned.';
COMMENT ON TRIGGER invoices_create_audit ON invoices IS 'Logs purchases through the service.';
COMMENT ON TRIGGER invoices_update_audit ON invoices IS 'Logs every change of status, also one made in SQL.';
COMMENT ON TABLE invoice_details IS 'Lines of an invoice, one per product, with the name and price at the time of purchase.';
COMMENT ON COLUMN invoice_details.id
IS 'For tools that need a single-column key. Everything else identifies a line by invoice_id and product_id.';
COMMENT ON COLUMN invoice_details.invoice_id IS 'The invoice that the line belongs to.';
COMMENT ON COLUMN invoice_details.product_id IS 'The product bought. It may have been deleted since.';
COMMENT ON COLUMN invoice_details.name IS 'Name of the product at the time of purchase.';
COMMENT ON COLUMN invoice_details.unit_price IS 'Price of one piece at the time of purchase.';
COMMENT ON COLUMN invoice_details.quantity IS 'Pieces bought: at most 100 lines of a request, of 10,000 pieces each.';
COMMENT ON COLUMN invoice_details.line_total IS 'unit_price times quantity, computed by PostgreSQL.';
COMMENT ON COLUMN invoice_details.credited
IS 'Pieces that credit notes have credited; updated by a trigger of credit_note_lines.';
COMMENT ON COLUMN invoice_details.restocked IS 'Pieces that went back into stock; updated by record_stock().';
COMMENT ON CONSTRAINT invoice_details_one_line_per_product ON invoice_details
IS 'Lines of a request that name the same product are summed. Credit notes and stock movements refer to this key.';
COMMENT ON CONSTRAINT invoice_details_credited_range ON invoice_details
IS 'Never more credited than bought, also with concurrent credit notes.';
COMMENT ON TRIGGER invoice_details_stay ON invoice_details IS 'Product, name, price and quantity of a sale never change.';
COMMENT ON TRIGGER invoice_details_only_grow ON invoice_details
IS 'Both counters only grow, so that nothing is credited or restocked twice.';
COMMENT ON FUNCTION check_invoice_total()
IS 'Trigger function: the total of an invoice must be the sum of its lines when the transaction ends.';
COMMENT ON TRIGGER invoices_total_is_sum ON invoices IS 'Runs at COMMIT, when the lines exist.';
COMMENT ON TRIGGER invoice_details_total_is_sum ON invoice_details
IS 'Runs at COMMIT. Rejects a line added to an existing invoice.';
COMMENT ON TABLE invoice_events
IS 'Changes of an invoice''s status. Append-only; only a reason given by the customer can be erased.';
COMMENT ON COLUMN invoice_events.from_status IS 'Status before the change.';
COMMENT ON COLUMN invoice_events.to_status IS 'Status after the change.';
COMMENT ON COLUMN invoice_events.actor_id IS 'The user who asked for the change. A change made in SQL has no event.';
COMMENT ON COLUMN invoice_events.restocked IS 'Whether the goods went back into stock.';
COMMENT ON COLUMN invoice_events.reason IS 'Reason given by the actor; NULL if none was given.';
COMMENT ON CONSTRAINT invoice_events_transition_fkey ON invoice_events
IS 'Only transitions in invoice_transitions. A transition that has been used cannot be deleted there.';
COMMENT ON CONSTRAINT invoice_events_once ON invoice_events
IS 'No status is left twice (the transitions have no cycle), so nothing is restocked twice.';
COMMENT ON TRIGGER invoice_events_stay ON invoice_events IS 'Events never change.';
COMMENT ON TRIGGER invoice_events_words_only_erased ON invoice_events IS 'A reason can be set to NULL, but not to another text.';
COMMENT ON TABLE number_series
IS 'Last number of each series and UTC year. The row stays locked until the transaction that takes a number ends: no gaps.';
COMMENT ON COLUMN number_series.series IS 'invoice; or credit_note, whose numbers begin with C.';
COMMENT ON COLUMN number_series.last IS 'The last number taken.';
COMMENT ON CONSTRAINT number_series_known ON number_series IS 'A new series also needs a prefix in next_number().';
COMMENT ON FUNCTION next_number(text)
IS 'The next number of a series (invoice or credit_note) in the current UTC year. A rollback gives it back.';
COMMENT ON FUNCTION enter_status()
IS 'Trigger function of invoices: allows only transitions in invoice_transitions, and assigns the number on payment.';
COMMENT ON TRIGGER invoices_enter_status ON invoices
IS 'Allows only transitions in invoice_transitions. The first one that is not a cancellation assigns the number.';
COMMENT ON TABLE credit_notes IS 'Credits of an invoice, in part or in full. The amounts of the invoice itself never change.';
COMMENT ON COLUMN credit_notes.id IS 'Its lines refer to it. Has gaps, unlike number.';
COMMENT ON COLUMN credit_notes.invoice_id IS 'The invoice that is credited.';
COMMENT ON COLUMN credit_notes.number IS 'Without gaps in its UTC year (see number_series), such as C2026-000001.';
COMMENT ON COLUMN credit_notes.reason IS 'Reason given by the actor; NULL if none was given.';
COMMENT ON COLUMN credit_notes.created_at IS 'Start of the transaction that made it. Its UTC year is the year in number.';
COMMENT ON CONSTRAINT credit_notes_of_invoice_key ON credit_notes
IS 'For the foreign key of credit_note_lines. Also finds the credit notes of an invoice.';
COMMENT ON TRIGGER credit_notes_stay ON credit_notes IS 'Credit notes never change: the customer has them.';
COMMENT ON TRIGGER credit_notes_create_audit ON credit_notes IS 'Logs every credit note, also one made in SQL.';
COMMENT ON FUNCTION number_credit_note() IS 'Trigger function of credit_notes: assigns the number.';
COMMENT ON TRIGGER credit_notes_number ON credit_notes
IS 'Assigns the next number. A number set by the owner, as in an import, is kept.';
COMMENT ON TABLE credit_note_lines IS 'Pieces of an invoice line that a credit note credits, at the unit price of that line.';
COMMENT ON COLUMN credit_note_lines.credit_note_id IS 'The credit note that the line belongs to.';
COMMENT ON COLUMN credit_note_lines.invoice_id
IS 'Invoice of the credit note. Repeated here so that foreign keys tie the line to the same invoice.';
COMMENT ON COLUMN credit_note_lines.product_id IS 'The product credited.';
COMMENT ON COLUMN credit_note_lines.quantity
IS 'Pieces credited; invoice_details_credited_range limits them. '
'The amount is quantity times the unit price of the invoice line.';
COMMENT ON CONSTRAINT credit_note_lines_pkey ON credit_note_lines
IS 'At most two lines per product: pieces that went back into stock, and pieces that did not.';
COMMENT ON CONSTRAINT credit_note_lines_credit_note_fkey ON credit_note_lines
IS 'The line has the same invoice as its credit note.';
COMMENT ON CONSTRAINT credit_note_lines_invoice_detail_fkey ON credit_note_lines
IS 'Only products of that invoice can be credited.';
COMMENT ON TRIGGER credit_note_lines_stay ON credit_note_lines IS 'Lines of credit notes never change.';
COMMENT ON FUNCTION check_credit_note_lines()
IS 'Trigger function of credit_notes: a credit note must have lines when the transaction ends.';
COMMENT ON TRIGGER credit_notes_have_lines ON credit_notes IS 'Runs at COMMIT, when the lines exist.';
COMMENT ON FUNCTION count_credited()
IS 'Trigger function: adds credited pieces to the invoice lines, where invoice_details_credited_range limits them.';
COMMENT ON TRIGGER credit_note_lines_count ON credit_note_lines
IS 'Updates invoice_details.credited. The row lock makes concurrent credit notes of a line wait for each other.';
COMMENT ON TABLE stock_movements
IS 'Ledger of stock: every change of the stock of a product. '
'Append-only; written by triggers of products, whoever changes the stock.';
COMMENT ON COLUMN stock_movements.id
IS 'Order of the movements of one product: each is written while the row of the product is locked.';
COMMENT ON COLUMN stock_movements.product_id IS 'The product whose stock changed.';
COMMENT ON COLUMN stock_movements.delta IS 'Pieces added (positive) or removed (negative).';
COMMENT ON COLUMN stock_movements.stock IS 'Stock after the movement.';
COMMENT ON COLUMN stock_movements.invoice_id IS 'The invoice of a sale or restock; NULL for initial and adjust.';
COMMENT ON COLUMN stock_movements.actor_id IS 'The user who caused it; NULL for a change made in SQL.';
COMMENT ON COLUMN stock_movements.reason IS 'Reason given by the actor. For a change made in SQL: the database role.';
COMMENT ON COLUMN stock_movements.created_at
IS 'Time of the movement itself, not the start of the transaction, so that times have the order of the ids of a product.';
COMMENT ON CONSTRAINT stock_movements_invoice_detail_fkey ON stock_movements
IS 'A sale or restock refers to a line of its invoice.';
COMMENT ON CONSTRAINT stock_movements_sign ON stock_movements
IS 'Sales remove pieces, restocks add them, and the initial movement equals the stock.';
COMMENT ON CONSTRAINT stock_movements_invoice_of_kind ON stock_movements
IS 'Sales and restocks have an invoice; other movements have none.';
COMMENT ON INDEX stock_movements_of_product IS 'Ledger of one product, newest first.';
COMMENT ON TRIGGER stock_movements_stay ON stock_movements IS 'The ledger is append-only.';
COMMENT ON FUNCTION stock_cause(text, bigint, bigint, text)
IS 'Tells record_stock() why the statement that calls it changes stock. Valid for this one statement.';
COMMENT ON FUNCTION record_stock()
IS 'Trigger function: writes a movement for every stock that a statement changed, with the cause given to stock_cause().';
COMMENT ON TRIGGER products_insert_record_stock ON products
IS 'Writes the first movement of every product, however it is inserted.';
COMMENT ON TRIGGER products_update_record_stock ON products
IS 'Writes a movement for every stock that changes, whoever changes it.';
COMMENT ON TABLE idempotency_keys
IS 'Responses to writes with an Idempotency-Key, kept for 24 hours. Stored in the transaction of the write.';
COMMENT ON COLUMN idempotency_keys.user_id IS 'Owner of the key. Two users may use the same key.';
COMMENT ON COLUMN idempotency_keys.key IS 'As sent by the client. Unique per user and route.';
COMMENT ON COLUMN idempotency_keys.fingerprint
IS 'SHA-256 of method, route, parameters and body. The same key with another request is rejected. '
'The request itself is not kept, as it may be personal.';
COMMENT ON COLUMN idempotency_keys.status IS 'HTTP status of the response; NULL only while its transaction runs.';
COMMENT ON COLUMN idempotency_keys.location IS 'Location header of the response; NULL if it has none.';
COMMENT ON COLUMN idempotency_keys.body IS 'Body of the response.';
COMMENT ON COLUMN idempotency_keys.created_at IS 'When the key was claimed. It can be claimed again after 24 hours.';
COMMENT ON CONSTRAINT idempotency_keys_pkey ON idempotency_keys
IS 'One response per user, route and key: of two concurrent requests with the same key, one runs.';
COMMENT ON CONSTRAINT idempotency_keys_status_range ON idempotency_keys
IS 'Success or refusal. Server errors (5xx) are never kept, so that a retry runs again.';
COMMENT ON CONSTRAINT idempotency_keys_whole ON idempotency_keys
IS 'A response has both status and body; until it is stored, there is neither.';
COMMENT ON INDEX idempotency_keys_age IS 'For the purge of keys older than 24 hours.';
COMMENT ON CONSTRAINT schema_version_pkey ON schema_version IS NULL;
COMMENT ON CONSTRAINT schema_version_positive ON schema_version IS NULL;
COMMENT ON CONSTRAINT shop_pkey ON shop IS NULL;
COMMENT ON CONSTRAINT shop_single_row ON shop IS NULL;
COMMENT ON CONSTRAINT users_pkey ON users IS NULL;
COMMENT ON CONSTRAINT users_role_known ON users IS NULL;
COMMENT ON CONSTRAINT users_token_version_positive ON users IS NULL;
COMMENT ON CONSTRAINT sessions_pkey ON sessions IS NULL;
COMMENT ON CONSTRAINT sessions_user_id_fkey ON sessions IS NULL;
COMMENT ON CONSTRAINT sessions_ends_later ON sessions IS NULL;
COMMENT ON CONSTRAINT sessions_end_reason_known ON sessions IS NULL;
COMMENT ON CONSTRAINT refresh_tokens_pkey ON refresh_tokens IS NULL;
COMMENT ON CONSTRAINT refresh_tokens_session_id_fkey ON refresh_tokens IS NULL;
COMMENT ON CONSTRAINT audit_log_pkey ON audit_log IS NULL;
COMMENT ON CONSTRAINT audit_addresses_pkey ON audit_addresses IS NULL;
COMMENT ON CONSTRAINT audit_addresses_audit_id_fkey ON audit_addresses IS NULL;
COMMENT ON CONSTRAINT products_pkey ON products IS NULL;
COMMENT ON CONSTRAINT products_name_length ON products IS NULL;
COMMENT ON CONSTRAINT products_version_positive ON products IS NULL;
COMMENT ON CONSTRAINT invoice_statuses_pkey ON invoice_statuses IS NULL;
COMMENT ON CONSTRAINT invoice_transitions_pkey ON invoice_transitions IS NULL;
COMMENT ON CONSTRAINT invoice_transitions_from_status_fkey ON invoice_transitions IS NULL;
COMMENT ON CONSTRAINT invoice_transitions_to_status_fkey ON invoice_transitions IS NULL;
COMMENT ON CONSTRAINT invoice_transitions_moves ON invoice_transitions IS NULL;
COMMENT ON CONSTRAINT invoices_pkey ON invoices IS NULL;
COMMENT ON CONSTRAINT invoices_number_key ON invoices IS NULL;
COMMENT ON CONSTRAINT invoices_user_id_fkey ON invoices IS NULL;
COMMENT ON CONSTRAINT invoices_status_fkey ON invoices IS NULL;
COMMENT ON CONSTRAINT invoice_details_pkey ON invoice_details IS NULL;
COMMENT ON CONSTRAINT invoice_details_invoice_id_fkey ON invoice_details IS NULL;
COMMENT ON CONSTRAINT invoice_details_product_id_fkey ON invoice_details IS NULL;
COMMENT ON CONSTRAINT invoice_details_name_length ON invoice_details IS NULL;
COMMENT ON CONSTRAINT invoice_details_unit_price_range ON invoice_details IS NULL;
COMMENT ON CONSTRAINT invoice_details_quantity_range ON invoice_details IS NULL;
COMMENT ON CONSTRAINT invoice_details_restocked_range ON invoice_details IS NULL;
COMMENT ON CONSTRAINT invoice_events_pkey ON invoice_events IS NULL;
COMMENT ON CONSTRAINT invoice_events_invoice_id_fkey ON invoice_events IS NULL;
COMMENT ON CONSTRAINT invoice_events_actor_id_fkey ON invoice_events IS NULL;
COMMENT ON CONSTRAINT invoice_events_reason_length ON invoice_events IS NULL;
COMMENT ON CONSTRAINT number_series_pkey ON number_series IS NULL;
COMMENT ON CONSTRAINT number_series_year_range ON number_series IS NULL;
COMMENT ON CONSTRAINT number_series_positive ON number_series IS NULL;
COMMENT ON CONSTRAINT credit_notes_pkey ON credit_notes IS NULL;
COMMENT ON CONSTRAINT credit_notes_number_key ON credit_notes IS NULL;
COMMENT ON CONSTRAINT credit_notes_invoice_id_fkey ON credit_notes IS NULL;
COMMENT ON CONSTRAINT credit_notes_actor_id_fkey ON credit_notes IS NULL;
COMMENT ON CONSTRAINT credit_notes_reason_length ON credit_notes IS NULL;
COMMENT ON CONSTRAINT credit_note_lines_quantity_positive ON credit_note_lines IS NULL;
COMMENT ON CONSTRAINT stock_movements_pkey ON stock_movements IS NULL;
COMMENT ON CONSTRAINT stock_movements_product_id_fkey ON stock_movements IS NULL;
COMMENT ON CONSTRAINT stock_movements_actor_id_fkey ON stock_movements IS NULL;
COMMENT ON CONSTRAINT stock_movements_reason_length ON stock_movements IS NULL;
COMMENT ON CONSTRAINT idempotency_keys_user_id_fkey ON idempotency_keys IS NULL;
COMMENT ON CONSTRAINT idempotency_keys_fingerprint_sha256 ON idempotency_keys IS NULL;

ALTER TABLE schema_version
ADD COLUMN name text,
ADD COLUMN safe boolean NOT NULL DEFAULT false,
ADD COLUMN sha256 text,
ADD COLUMN applied_by text,
ALTER COLUMN applied_by SET DEFAULT session_user,
ADD COLUMN seconds numeric,
-- The table has one row.
-- squawk-ignore constraint-missing-not-valid
ADD CONSTRAINT schema_version_sha256_form CHECK (sha256 ~ '^[0-9a-f]{64}$');

COMMENT ON TABLE schema_version
IS 'The migrations (sql/migrations) that this database has, one row each. The highest version is that of the schema.';
COMMENT ON COLUMN schema_version.version IS 'Version number, with which the name of the file begins.';
COMMENT ON COLUMN schema_version.applied_at IS 'When this version was applied, or the database was made.';
COMMENT ON COLUMN schema_version.name IS 'The rest of the file''s name; NULL for the first version, which no migration made.';
COMMENT ON COLUMN schema_version.safe
IS 'true: a release that does not know this version goes on serving. false: it refuses the database.';
COMMENT ON COLUMN schema_version.sha256
IS 'SHA-256 of the file that petstore migrate ran; NULL if psql ran it, or schema.sql contained it from the start.';
COMMENT ON COLUMN schema_version.applied_by IS 'The role that logged in to apply it; NULL if that is not known.';
COMMENT ON COLUMN schema_version.seconds IS 'How long the file ran; NULL unless petstore migrate ran it.';
COMMENT ON CONSTRAINT schema_version_sha256_form ON schema_version IS 'As sha256sum prints it.';

INSERT INTO schema_version (version, name, safe) VALUES (6, 'record_migrations', true);
