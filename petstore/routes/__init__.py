"""The handlers, a module per resource. What more than one of them has to know stands here."""

# The prefixes of the cache: everything that shows a product, and everything that lists a customer's invoices.
PRODUCTS = "products"
INVOICES = "invoices:{user_id}"
