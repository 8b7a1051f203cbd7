"""The shop as a small model: what every request has to do to a few dicts, and what it has to be answered.

What is kept looks like the JSON that shows it. Each method takes a valid body, and what the service has told, from which it learns
only what a service may choose: ids, and the year. It returns what the service should have said: status and JSON, as said() has it.
"""

from tests.factories import product_columns

NEXT = {"pending": ["cancelled", "paid"], "paid": ["refunded", "shipped"], "shipped": ["delivered", "refunded"]}
NEXT |= {"delivered": ["refunded"], "cancelled": [], "refunded": []}
WORDS = ("type", "title", "status", "detail", "request_id")  # of a problem: for people, or known already


def said(answer):
    """What an answer says, without the words for people."""
    document = answer.json() if answer.body else None
    if answer.status < 400:
        return answer.status, document
    facts = {name: value for name, value in document.items() if name not in WORDS}
    for fault in facts.get("errors", []):
        del fault["detail"]
    return answer.status, {"slug": document["type"].removeprefix("/problems/"), **facts}


def refusal(status, slug, **facts):
    return status, {"slug": slug, **facts}


NOT_FOUND = refusal(404, "not-found")


class Chosen:
    """A value that the service chooses: any at first, and from then on that one."""

    __hash__ = None

    def __init__(self, kind=str):
        self.kind, self.value = kind, None

    def __eq__(self, other):
        if self.value is None and isinstance(other, self.kind):
            self.value = other
        return self.value == other

    def __repr__(self):
        return repr(self.value)


def usd(cents):
    return f"{cents // 100}.{cents % 100:02}"


def cents(amount):
    return int(amount.replace(".", ""))


def line(sold, quantity, **more):
    """A line of an invoice or a credit note. sold: product_id, name and unit_price, among others."""
    named = {name: sold[name] for name in ("product_id", "name", "unit_price")}
    return named | {"quantity": quantity, "line_total": usd(cents(sold["unit_price"]) * quantity), **more}


def total(lines):
    return {"total": usd(sum(cents(one["line_total"]) for one in lines)), "currency": "USD"}


def short(pointer, product_id, requested, available):
    return {"pointer": pointer, "product_id": product_id, "requested": requested, "available": available}


def add_up(lines):
    """Pieces by product, in id order."""
    ids = sorted({one["product_id"] for one in lines})
    return {product_id: sum(one["quantity"] for one in lines if one["product_id"] == product_id) for product_id in ids}


class Model:
    """A shop with some users and nothing else."""

    def __init__(self, emails):
        self.emails, self.deleted = set(emails), set()  # in small letters; ids
        self.products, self.invoices, self.refunds = {}, {}, {}  # by id; of a refund, whether its goods went into stock
        self.movements, self.numbers = [], {}  # newest first; the last of each series and year

    # ── what is read ──

    def product_list(self):
        return [product for product_id, product in sorted(self.products.items()) if product_id not in self.deleted]

    def product(self, product_id):
        return NOT_FOUND if product_id in self.deleted else (200, self.products[product_id])

    def ledger(self, product_id):
        return [row for row in self.movements if row["product_id"] == product_id]

    def invoice_list(self, user_id):
        own = [invoice for _, invoice in sorted(self.invoices.items(), reverse=True) if invoice["user_id"] == user_id]
        return [{name: value for name, value in invoice.items() if not isinstance(value, list)} for invoice in own]

    def invoice(self, user_id, invoice_id):
        invoice = self.invoices[invoice_id]
        return (200, invoice) if invoice["user_id"] == user_id else NOT_FOUND

    # ── accounts and products ──

    def register(self, body, told):
        if body["email"].lower() in self.emails:
            return refusal(409, "email-taken", errors=[{"pointer": "/email"}])
        self.emails.add(body["email"].lower())
        return 201, {"id": told["id"], "email": body["email"], "role": "user", "created_at": Chosen()}

    def create(self, actor_id, body, told):
        product = self.products[told["id"]] = product_columns(**body) | {"id": told["id"], "stock": 0, "version": 1}
        product |= {"currency": "USD", "created_at": Chosen(), "updated_at": Chosen()}
        self._move(product["id"], "initial", body["stock"], actor_id)
        return 201, product

    def edit(self, actor_id, product_id, body, told):
        product, delta = self.products[product_id], body.get("stock_delta", 0)
        if product_id in self.deleted:
            return NOT_FOUND
        if body.get("version", product["version"]) != product["version"]:
            return refusal(409, "edit-conflict", current_version=product["version"], errors=[{"pointer": "/version"}])
        if body.get("expected_stock", product["stock"]) != product["stock"]:
            return refusal(409, "stock-changed", current_stock=product["stock"], errors=[{"pointer": "/expected_stock"}])
        if product["stock"] + delta < 0:
            return refusal(409, "not-enough-stock", errors=[short("/stock_delta", product_id, -delta, product["stock"])])
        step = body.get("stock", product["stock"] + delta) - product["stock"]
        new = {name: body[name] for name in product_columns() if name in body and name != "stock"}
        if step or new != {name: product[name] for name in new}:
            product |= {**new, "version": product["version"] + 1, "updated_at": Chosen()}
        if step:
            self._move(product_id, "adjust", step, actor_id)
        return 200, product

    def delete(self, product_id, version):
        product = self.products[product_id]
        if product_id in self.deleted:
            return NOT_FOUND
        if version not in (None, product["version"]):
            return refusal(409, "edit-conflict", current_version=product["version"], errors=[{"parameter": "version"}])
        self.deleted.add(product_id)
        return 204, None

    # ── purchases and invoices ──

    def buy(self, user_id, body, told):
        lines = [(f"/products/{place}", one, self.products[one["product_id"]]) for place, one in enumerate(body["products"])]
        unknown = [{"pointer": f"{place}/product_id"} for place, _, product in lines if product["id"] in self.deleted]
        if unknown:
            return refusal(422, "invalid", errors=unknown)
        dear = [
            {"pointer": f"{place}/expected_price", **one, "product_id": product["id"], "price": product["price"]}
            for place, one, product in lines
            if one.get("expected_price", product["price"]) != product["price"]
        ]
        if dear:
            return refusal(409, "price-changed", errors=[{n: v for n, v in one.items() if n != "quantity"} for one in dear])
        wanted = add_up(body["products"])
        too_few = [
            short(f"{place}/quantity", product["id"], wanted[product["id"]], product["stock"])
            for place, _, product in lines
            if wanted[product["id"]] > product["stock"]
        ]
        if too_few:
            return refusal(409, "not-enough-stock", errors=too_few)
        details = []
        for product_id, quantity in wanted.items():
            product = self.products[product_id]
            sold = {"product_id": product_id, "name": product["name"], "unit_price": product["price"]}
            details.append(line(sold, quantity, credited=0, restocked=0))
            self._move(product_id, "sale", -quantity, user_id, told["id"])
        invoice = {"id": told["id"], "number": None, "user_id": user_id, "status": "pending", **total(details)}
        invoice |= {"created_at": Chosen(), "details": details, "events": [], "credit_notes": []}
        self.invoices[told["id"]] = invoice
        return 201, invoice

    def cancel(self, user_id, invoice_id, body, told):
        if self.invoices[invoice_id]["user_id"] != user_id:
            return NOT_FOUND
        return self.change(user_id, invoice_id, body | {"status": "cancelled"}, told)

    def change(self, actor_id, invoice_id, body, told):
        invoice, status, reason = self.invoices[invoice_id], body["status"], body.get("reason")
        before, details = invoice["status"], invoice["details"]
        if status == before:
            return self._asked_again(invoice, body)
        if status not in NEXT[before]:
            return refusal(409, "transition-not-allowed", current=before, allowed=NEXT[before])
        invoice["status"], restock, restocked = status, body.get("restock", True), False
        if status == "paid":
            invoice["number"] = self._number("", told["events"][-1])
        elif status == "cancelled":
            restocked = True
            for detail in details:
                self._put_back(invoice, detail, "cancel_restock", detail["quantity"], actor_id)
        elif status == "refunded" and (left := [one for one in details if one["credited"] < one["quantity"]]):
            restocked = self.refunds[invoice_id] = restock
            lines = [{**one, "quantity": one["quantity"] - one["credited"], "restock": restock} for one in left]
            self._take_back(invoice, lines, actor_id, reason, told["credit_notes"][-1])
        event = {"from_status": before, "to_status": status, "actor_id": actor_id, "restocked": restocked}
        invoice["events"].append(event | {"reason": reason, "created_at": Chosen()})
        return 200, invoice

    def _asked_again(self, invoice, body):
        """A request for the status that the invoice has: nothing can be added to it."""
        reasons = [event["reason"] for event in invoice["events"] if event["to_status"] == invoice["status"]]
        other = ["reason"] if "reason" in body and [body["reason"]] != reasons else []
        restock = body.get("restock")
        other += ["restock"] if restock is not None and restock != self.refunds.get(invoice["id"], restock) else []
        facts = {"current": invoice["status"], "allowed": NEXT[invoice["status"]]}
        errors = [{"pointer": f"/{name}"} for name in other]
        return refusal(409, "transition-not-allowed", **facts, errors=errors) if other else (200, invoice)

    def credit(self, actor_id, invoice_id, body, told):
        invoice, wanted = self.invoices[invoice_id], add_up(body["lines"])
        if "refunded" not in NEXT[invoice["status"]]:
            return refusal(409, "not-creditable", current=invoice["status"])
        left = {detail["product_id"]: detail["quantity"] - detail["credited"] for detail in invoice["details"]}
        places = [(f"/lines/{place}/quantity", one["product_id"]) for place, one in enumerate(body["lines"])]
        too_many = [short(place, i, wanted[i], left[i]) for place, i in places if wanted[i] > left[i]]
        if too_many:
            return refusal(409, "credit-exceeds-invoice", errors=too_many)
        return 201, self._take_back(invoice, body["lines"], actor_id, body.get("reason"), told)

    # ── the books ──

    def _move(self, product_id, kind, delta, actor_id, invoice_id=None):
        self.products[product_id]["stock"] += delta
        row = {"id": Chosen(int), "product_id": product_id, "kind": kind, "delta": delta, "actor_id": actor_id, "reason": None}
        row |= {"stock": self.products[product_id]["stock"], "invoice_id": invoice_id, "created_at": Chosen()}
        self.movements.insert(0, row)

    def _put_back(self, invoice, detail, kind, quantity, actor_id):
        if quantity:
            detail["restocked"] += quantity
            self._move(detail["product_id"], kind, quantity, actor_id, invoice["id"])

    def _number(self, series, told):
        """The next of its series and UTC year."""
        series += told["created_at"][:4]
        self.numbers[series] = self.numbers.get(series, 0) + 1
        return f"{series}-{self.numbers[series]:06}"

    def _take_back(self, invoice, wanted, actor_id, reason, told):
        """A credit note for lines of product_id, quantity, restock."""
        lines = []
        for detail in invoice["details"]:
            of_it = [one for one in wanted if one["product_id"] == detail["product_id"]]
            for restock in (True, False):
                quantity = sum(one["quantity"] for one in of_it if one.get("restock", True) == restock)
                lines += [line(detail, quantity, restock=restock)] if quantity else []
                detail["credited"] += quantity
                self._put_back(invoice, detail, "return_restock", quantity * restock, actor_id)
        note = {"id": Chosen(int), "number": self._number("C", told), "invoice_id": invoice["id"], **total(lines)}
        note |= {"actor_id": actor_id, "reason": reason, "created_at": Chosen(), "lines": lines}
        invoice["credit_notes"].append(note)
        return note
