"""The clients that docs/api.md shows, docs/clients/client.py and client.ts, get through whatever the service answers, and write once."""

import copy
import json
import re
import shutil
import subprocess
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack

import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from petstore import db
from petstore.domain import idempotency
from tests.client import Client
from tests.contract.test_browser import CHROMIUM, DRIVER, chromium
from tests.contract.typescript import CLIENTS, HERE, NODE, compile_strictly, needs_node, project
from tests.factories import PASSWORD
from tests.faults.links import with_options
from tests.proxy import Proxy
from tests.waiting import eventually

pytestmark = pytest.mark.slow
needs_chromium = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="there is no Chromium: apt-get install chromium chromium-driver"
)


class Tab:
    """A process with one of the clients, which does what it is asked; `store` is a file with its tokens."""

    def __init__(self, command, address, store):
        url = "http://{}:{}".format(*address)
        self._process = subprocess.Popen([*command, url, store], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._asked, self._reader = [], threading.Thread(target=self._read)
        self._reader.start()

    def ask(self, name, *arguments):
        """A future of how it ends: what it gave, or the name and the kind of what it raised."""
        self._asked.append(Future())
        self._process.stdin.write(json.dumps([len(self._asked) - 1, name, arguments]) + "\n")
        self._process.stdin.flush()
        return self._asked[-1]

    def do(self, name, *arguments):
        return self.ask(name, *arguments).result(30)

    def close(self):
        self._process.terminate()
        self._reader.join()
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()

    def _read(self):
        for line in self._process.stdout:
            said = json.loads(line)
            self._asked[said["number"]].set_result(said["value"] if "value" in said else (said["error"], said["type"]))


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """The folder with client.js and driver.js."""
    folder = project(tmp_path_factory.mktemp("typescript"))
    assert compile_strictly(folder, "driver.ts") == ""
    return folder


@pytest.fixture(scope="module", params=["python", pytest.param("typescript", marks=needs_node)])
def command(request):
    """The command that starts a tab."""
    if request.param == "python":
        return [sys.executable, HERE / "driver.py", CLIENTS]
    return [NODE, request.getfixturevalue("compiled") / "driver.js"]


@pytest.fixture
def open_tab(command, service, tmp_path):
    """open_tab(): a tab of the shared service. open_tab(address, store="b"): of another one, with tokens of its own."""
    with ExitStack() as stack:

        def opened(address=service[1].address, store="a"):
            file = tmp_path / store
            if not file.exists():
                file.write_text("null", "utf-8")
            tab = Tab(command, address, file)
            stack.callback(tab.close)
            return tab

        yield opened


@pytest.fixture
def answered(caplog):
    """answered("POST /purchase_product 503"): how many times the service has answered so."""
    return lambda start: sum(message.startswith(start) for message in caplog.messages)


@pytest.fixture
def other_connection(cluster, database):
    """A connection of somebody else, to hold locks with."""
    with db.connect(cluster.url("postgres", database)) as conn:
        yield conn


BUY = "POST", "/purchase_product", {"products": [{"product_id": 1, "quantity": 1}]}


def bought(make):
    """How many invoices there are, and how many pieces have left the stock."""
    return make.conn.execute("SELECT (SELECT count(*) FROM invoices), (SELECT 10 - stock FROM products WHERE id = 1)").fetchone()


def waiting(make):
    """How many sessions of this database wait for a lock."""
    sessions = "SELECT count(DISTINCT pid) FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE datname = current_database() AND NOT granted"
    return make.conn.execute(sessions).fetchone()[0]


def expire(service, store):
    """The access token in the store expired a minute ago."""
    store.write_text(expired(service, store.read_text("utf-8")), "utf-8")


def expired(service, tokens):
    """The same tokens a minute after the access token has expired, as JSON."""
    issuer, found = copy.copy(service[0].tokens), json.loads(tokens)
    issuer.seconds = -60
    return json.dumps({**found, "access_token": issuer.issue(service[0].tokens.verify(found["access_token"]))})


def test_401_many_requests_with_an_expired_token_refresh_once(open_tab, make, ana, service, tmp_path, answered, other_connection):
    make.product()
    tab = open_tab()
    assert tab.do("login", ana.email, PASSWORD) is None
    expire(service, tmp_path / "a")
    with other_connection.transaction():
        other_connection.execute("SELECT FROM sessions FOR UPDATE")  # POST /refresh waits
        asked = [tab.ask("write", *BUY, f"order {number}") for number in range(5)]
        eventually(lambda: answered("POST /purchase_product 401") == 5)
    invoices = [one.result(30) for one in asked]
    assert len({invoice["id"] for invoice in invoices}) == 5
    assert bought(make) == (5, 5)
    assert answered("POST /refresh") == 1


def test_401_two_tabs_without_a_common_lock_refresh_at_once_and_both_go_on(
    open_tab, make, ana, service, tmp_path, answered, other_connection
):
    make.product()
    tabs = open_tab(), open_tab()
    tabs[0].do("login", ana.email, PASSWORD)
    expire(service, tmp_path / "a")
    with other_connection.transaction():
        other_connection.execute("SELECT FROM sessions FOR UPDATE")
        asked = [tab.ask("write", *BUY, f"order {number}") for number, tab in enumerate(tabs)]
        eventually(lambda: waiting(make) == 2)
    assert len({one.result(30)["id"] for one in asked}) == 2
    assert answered("POST /refresh 200") == 2
    expire(service, tmp_path / "a")
    assert [tab.do("get", "/me")["email"] for tab in tabs] == [ana.email] * 2, "the login lives"
    assert bought(make) == (2, 2)


@needs_node
@needs_chromium
def test_401_two_tabs_of_a_browser_share_one_refresh_token(compiled, make, ana, service, tmp_path, answered, other_connection):
    """With localStorage and Web Locks; or twice, if the storage of the other tab is a moment late: then they get the same token."""
    make.product()
    client = re.sub("^export ", "", (compiled / "client.js").read_text("utf-8"), flags=re.MULTILINE)
    with chromium(tmp_path, "http://{}:{}".format(*service[1].address)) as browser:
        windows = [browser.driver.current_window_handle]
        browser.driver.switch_to.new_window("tab")
        windows.append(browser.driver.current_window_handle)

        def each(script, *arguments):
            for number, window in enumerate(windows):
                browser.driver.switch_to.window(window)
                yield browser.run(script, *arguments, number)

        for window in windows:
            browser.driver.switch_to.window(window)
            browser.open("/problems")
        assert [*each(f"{client}; window.shop = new Petstore(location.origin, tabs)")] == [None, None]
        browser.run("shop.login(...arguments)", ana.email, PASSWORD)
        eventually(lambda: browser.run("return localStorage.getItem('petstore')"))
        browser.run(
            "localStorage.setItem('petstore', arguments[0])", expired(service, browser.run("return localStorage.petstore"))
        )
        with other_connection.transaction():
            other_connection.execute("SELECT FROM sessions FOR UPDATE")
            buy = "shop.write(...arguments[0], `order ${arguments[1]}`).then((made) => (window.made = made), (e) => (window.made = `${e}`))"
            assert [*each(buy, BUY)]
            eventually(lambda: answered("POST /purchase_product 401") == 2)
        eventually(lambda: all(each("return window.made")))
        assert len({made["id"] for made in each("return window.made")}) == 2
    assert answered("POST /refresh 200") == answered("POST /refresh") in (1, 2)
    assert make.scalar("SELECT count(*) FROM refresh_tokens") == 2
    assert bought(make) == (2, 2)


def test_401_a_lost_answer_of_refresh_costs_nothing(open_tab, make, ana, service, tmp_path, answered):
    make.product()
    with Proxy(("127.0.0.1", 0), service[1].address) as proxy:
        tab = open_tab(proxy.address)
        tab.do("login", ana.email, PASSWORD)
        expire(service, tmp_path / "a")

        def refuse_and_lose(data):
            lose_next_answer(proxy)
            return data

        proxy.changing = refuse_and_lose  # the 401 arrives, and the answer of /refresh does not
        assert tab.do("write", *BUY, "k")["status"] == "pending"
    assert bought(make) == (1, 1)
    assert answered("POST /refresh 200") == 2


def test_401_who_is_behind_takes_the_tokens_of_who_is_ahead(open_tab, make, ana, service, tmp_path, answered):
    ahead, behind = open_tab(store="a"), open_tab(store="b")
    ahead.do("login", ana.email, PASSWORD)
    expire(service, tmp_path / "a")
    shutil.copy(tmp_path / "a", tmp_path / "b")
    assert ahead.do("get", "/me")["email"] == ana.email
    expire(service, tmp_path / "a")
    assert ahead.do("get", "/me")["email"] == ana.email
    asked = behind.ask("get", "/me")
    eventually(lambda: answered("POST /refresh 401") == 1)
    (tmp_path / "a").rename(tmp_path / "b")  # at once, as it is being read
    assert asked.result(30)["email"] == ana.email
    expire(service, tmp_path / "b")
    assert behind.do("get", "/me")["email"] == ana.email, "the login lives"


def test_401_of_a_login_that_ended_asks_for_the_password(open_tab, make, ana):
    tab = open_tab()
    tab.do("login", ana.email, PASSWORD)
    make.conn.execute("UPDATE sessions SET ended_at = now(), end_reason = 'logout'")
    assert tab.do("get", "/me")[0] == "LoggedOut"
    assert tab.do("login", ana.email, PASSWORD) is None
    assert tab.do("get", "/me")["email"] == ana.email


def test_409_an_edit_that_meets_another_reads_again_and_loses_neither(open_tab, make, boss, admin, answered, other_connection):
    make.product("ball", "12.50")
    tab = open_tab()
    tab.do("login", boss.email, PASSWORD)
    with ThreadPoolExecutor(1) as pool, other_connection.transaction():
        other_connection.execute("SELECT FROM products WHERE id = 1 FOR UPDATE")
        first = pool.submit(admin.patch, "/modify_product?id=1", {"name": "red ball"})  # the lock's queue is fair
        eventually(lambda: waiting(make) == 1)
        second = tab.ask("edit", 1, {"price": "13.00"})
        eventually(lambda: waiting(make) == 2)
    assert first.result(10).status == 200
    pool.shutdown()
    edited = second.result(30)
    assert (edited["name"], edited["price"], edited["version"]) == ("red ball", "13.00", 3)
    assert answered("PATCH /modify_product 409") == 1


def test_409_a_key_in_use_is_waited_for(open_tab, make, ana, clients, answered, other_connection, monkeypatch):
    make.product()
    monkeypatch.setattr(idempotency, "KEY_WAIT_SECONDS", 0.1)
    tab, other = open_tab(), clients(ana)
    tab.do("login", ana.email, PASSWORD)
    with ThreadPoolExecutor(1) as pool:
        with other_connection.transaction():
            other_connection.execute("SELECT FROM products WHERE id = 1 FOR UPDATE")
            first = pool.submit(other.post, *BUY[1:], headers={"Idempotency-Key": "k"})
            eventually(lambda: waiting(make) == 1)
            second = tab.ask("write", *BUY, "k")
            eventually(lambda: answered("POST /purchase_product 409") == 1)
        assert second.result(30) == first.result(10).json()
    assert bought(make) == (1, 1)


def test_429_is_waited_for(open_tab, make, ana, with_settings, answered):
    make.product()
    with with_settings(rate_limit=2) as (_, server):
        tab = open_tab(server.address)
        tab.do("login", ana.email, PASSWORD)
        with Client(server.address) as neighbour:  # at the same address
            while neighbour.get("/livez").status == 200:
                pass
        asked = [tab.ask("write", *BUY, f"order {number}") for number in range(3)]
        assert len({one.result(30)["id"] for one in asked}) == 3
    assert bought(make) == (3, 3)
    assert answered("POST /purchase_product 429") >= 1


@pytest.mark.parametrize("key", ["k", None])
def test_503_is_waited_for_also_without_a_key(key, open_tab, make, ana, settings, with_settings, answered, other_connection):
    make.product()
    with with_settings(database_url=with_options(settings.database_url, lock_timeout="100")) as (_, server):
        tab = open_tab(server.address)
        tab.do("login", ana.email, PASSWORD)
        with other_connection.transaction():
            other_connection.execute("SELECT FROM products WHERE id = 1 FOR UPDATE")
            buying = tab.ask("write", *BUY, key)
            eventually(lambda: answered("POST /purchase_product 503") >= 1)
        assert buying.result(30)["status"] == "pending"
    assert bought(make) == (1, 1)


def test_503_outcome_unknown_without_a_key_is_the_callers_to_decide(
    open_tab, make, ana, settings, with_settings, tmp_path, answered
):
    make.product()
    there = conninfo_to_dict(settings.database_url)
    upstream = (
        f"{there['host']}/.s.PGSQL.{there['port']}" if there["host"].startswith("/") else (there["host"], int(there["port"]))
    )
    with Proxy(tmp_path / ".s.PGSQL.5432", upstream) as proxy:
        url = make_conninfo(settings.database_url, host=str(tmp_path), port=5432)
        with with_settings(database_url=url) as (_, server):
            tab = open_tab(server.address)
            tab.do("login", ana.email, PASSWORD)
            proxy.lose_answers()
            assert tab.do("write", *BUY)[0] == "OutcomeUnknown"
            assert answered("POST /purchase_product 503") == 1
            proxy.lose_answers()
            assert tab.do("write", *BUY, "k")["status"] == "pending"
    assert bought(make) == (2, 2)


@pytest.mark.parametrize("key", ["k", None])
def test_an_answer_that_is_lost_on_its_way(key, open_tab, make, ana, service, answered):
    make.product()
    with Proxy(("127.0.0.1", 0), service[1].address) as proxy:
        tab = open_tab(proxy.address)
        tab.do("login", ana.email, PASSWORD)
        lose_next_answer(proxy)
        ended = tab.do("write", *BUY, key)
    if key:
        assert ended["status"] == "pending"
    else:
        assert ended[0] == "OutcomeUnknown"
    assert bought(make) == (1, 1)
    assert answered("POST /purchase_product 201") == (2 if key else 1)


def lose_next_answer(proxy):
    """The next answer does not arrive: all connections end instead."""

    def lose(data):
        proxy.changing = bytes
        proxy.cut()
        return b""

    proxy.changing = lose


def test_polling_costs_a_304_until_something_changes(open_tab, make, ana, clients, answered):
    make.product()
    tab = open_tab()
    polled = tab.ask("poll", "/products?id=1", 0.05, 2)
    eventually(lambda: answered("GET /products 304") >= 2)
    assert clients(ana).post(*BUY[1:]).status == 201
    assert [product["stock"] for product in polled.result(30)] == [10, 9]
    assert answered("GET /products 200") == 2
