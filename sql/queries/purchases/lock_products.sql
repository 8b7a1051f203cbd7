-- Locks the products of a purchase, in id order so that two purchases never wait for each other, and tells what they are now.
--
--   product_ids  bigint[]  the products; what is unknown or no longer on sale has no row in the answer
--
-- One step of a purchase: run it between BEGIN and COMMIT with the others, or ROLLBACK.
--
-- Locks: the rows of the products, FOR UPDATE, until the transaction ends.
-- psql -v product_ids='{1,2}' -f sql/queries/purchases/lock_products.sql
SELECT id, price, stock
FROM products
WHERE id = any(:'product_ids'::bigint[]) AND deleted_at IS NULL
ORDER BY id
FOR UPDATE;
