"""A database to which no connection can be made, or that takes no writes: known at once, told with its reason, found again."""

import time
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from petstore.db.connect_faults import connect_fault
from tests.client import Client
from tests.faults.conftest import timed, usual
from tests.faults.links import with_options
from tests.waiting import eventually

AT_ONCE = 0.9  # a wait for the pool is 1 s, a silent server 2.7 s


def faults_told(caplog):
    return [record.message for record in caplog.records if record.message.startswith("the database cannot be used")]


def cut_off(shop):
    shop.proxy.refusing = True
    shop.proxy.cut()


@pytest.mark.parametrize("fault", ["refused", pytest.param("silent", marks=pytest.mark.slow)])
def test_once_the_database_is_known_to_be_down_requests_are_refused_at_once_until_it_is_back(shop, caplog, fault):
    if fault == "refused":
        cut_off(shop)
    else:
        shop.proxy.swallowing = True
    assert shop.client().get("/me").status == 503
    for _ in range(10):
        for call in (lambda: shop.client().get("/me"), lambda: shop.buy()[0]):
            answer, seconds = timed(call)
            assert (answer.status, answer["Retry-After"]) == (503, "1")
            assert seconds < AT_ONCE
    ready = shop.client().get("/readyz")
    assert (ready.status, ready.json()["database"]) == (503, "down")
    assert ready.json()["reason"] == ("refused" if fault == "refused" else "no-answer")
    (told,) = faults_told(caplog)
    assert ("start PostgreSQL" if fault == "refused" else "frozen") in told
    assert (
        len([record for record in caplog.records if record.name.startswith("petstore.") and record.levelno > 20]) == 1
    )  # not one a request
    shop.proxy.refusing = shop.proxy.swallowing = False
    usual(shop)
    assert "the database can be reached again" in caplog.text


def test_a_purchase_that_is_refused_leaves_the_cache_alone(shop):
    path = f"/products?id={shop.first}"
    assert [shop.client().get(path)["X-Cache"] for _ in range(3)] == ["MISS", "HIT", "HIT"]
    assert shop.client().get("/me").status == 200  # so that purchases get past the look at the login, for 2 s
    cut_off(shop)
    assert shop.buy()[0].status == 503
    with ThreadPoolExecutor(4) as pool:
        buying = [pool.submit(shop.buy) for _ in range(40)]
        seen = {shop.client().get(path)["X-Cache"] for _ in range(40)}
        assert {answer.result()[0].status for answer in buying} == {503}
    assert seen == {"HIT"}
    shop.proxy.refusing = False


def test_a_connection_that_cannot_be_made_is_no_outage_while_others_work(shop, caplog):
    """As when max_connections is reached: those that are open go on serving."""
    shop.client().get("/me")
    shop.proxy.refusing = True
    conns = [shop.services.db._connections.connect for _ in range(2)]
    for connect in conns:
        with pytest.raises(psycopg.OperationalError):
            connect()
    assert [shop.buy()[0].status for _ in range(5)] == [201] * 5
    assert len(faults_told(caplog)) == 1


@pytest.mark.parametrize("guard", ["_connections", "_writes"])
def test_a_suspicion_is_unfounded_when_all_slots_of_the_server_are_taken_and_ours_work(shop, guard):
    shop.buy(), shop.client().get("/me")
    role = "ALTER ROLE petstore_app CONNECTION LIMIT {}"
    shop.make.conn.execute(role.format(len(shop.backends())))
    shop.later(role.format(-1))
    for _ in range(3):
        getattr(shop.services.db, guard).suspect()
        time.sleep(0.3)
        assert [shop.client().get("/me").status, shop.buy()[0].status] == [200, 201]
    assert shop.client().get("/readyz").status == 200


def refusals(folder):
    """What makes PostgreSQL refuse a connection: what is done to server and URL, and the kind of fault."""
    role = "ALTER ROLE petstore_app {}"
    return {
        "too-many-connections": (role.format("CONNECTION LIMIT 0"), role.format("CONNECTION LIMIT -1"), {}),
        "login-refused": (role.format("NOLOGIN"), role.format("LOGIN"), {}),
        "no-database": ("SELECT", "SELECT", {"dbname": "nowhere"}),
        "unsupported-parameter": ("SELECT", "SELECT", {"options": "-c nonsense=1"}),
        "unknown-host": ("SELECT", "SELECT", {"host": "no-such-host.invalid"}),
        "refused": ("SELECT", "SELECT", {"host": str(folder)}),
    }


@pytest.mark.parametrize("kind", refusals("/"))
def test_the_reason_why_no_connection_can_be_made_is_told_once_and_named_by_readyz(
    postgres, with_settings, tmp_path, caplog, kind
):
    before, after, changes = refusals(tmp_path)[kind]
    url = psycopg.conninfo.make_conninfo(postgres.url("petstore_app"), **changes)
    with psycopg.connect(postgres.url("postgres"), autocommit=True) as superuser:
        superuser.execute(before)
        try:
            with with_settings(database_url=url) as (services, server), Client(server.address) as client:
                eventually(lambda: services.db.fault is not None)
                for _ in range(5):
                    assert client.get("/products").status == 503
                ready = client.get("/readyz")
                assert (ready.status, ready.json()["database"], ready.json()["reason"]) == (503, "down", kind)
                (told,) = faults_told(caplog)
                assert f"({kind})" in told
                assert services.db.fault.advice in told
                assert "petstore_app" not in ready.body.decode()
                superuser.execute(after)
                if not changes:
                    eventually(lambda: client.get("/readyz").status == 200, 3)
        finally:
            superuser.execute(after)


def test_a_text_that_no_kind_knows_is_told_as_it_is():
    assert connect_fault(psycopg.OperationalError("une erreur\n  inconnue\n"))[:2] == ("unreachable", "une erreur / inconnue")


@pytest.fixture
def read_only(shop):
    """Sessions of the service are read-only from now on; gives what ends that for new ones."""
    role = "ALTER ROLE petstore_app {} default_transaction_read_only {}"
    shop.make.conn.execute(role.format("SET", "= on"))
    shop.services.db._connections._pool.drain()
    yield lambda: shop.make.conn.execute(role.format("RESET", ""))
    shop.make.conn.execute(role.format("RESET", ""))


def test_a_write_on_a_read_only_connection_is_begun_anew_on_another_one(shop, read_only, caplog):
    """As after a fail-over: the pooled connections lead to the old primary, a new one to the new primary."""
    assert shop.client().get("/me").status == 200  # so that the pool has such a connection
    stats = shop.services.db._connections._pool.get_stats
    eventually(lambda: stats()["pool_size"] == stats()["pool_available"])  # none is still being made
    read_only()
    assert shop.buy()[0].status == 201
    assert [shop.buy()[0].status for _ in range(8)] == [201] * 8
    assert shop.bought() == 9


def test_while_the_database_is_read_only_writes_are_refused_at_once_and_reads_go_on(shop, read_only, caplog):
    assert shop.buy()[0].status == 503
    eventually(lambda: "writes are refused" in caplog.text)
    for _ in range(5):
        answer, seconds = timed(lambda: shop.buy()[0])
        assert (answer.status, answer["Retry-After"]) == (503, "1")
        assert "reads go on" in answer.json()["detail"]
        assert seconds < AT_ONCE
    assert shop.client().get("/products").status == shop.client().get("/me").status == 200
    ready = shop.client().get("/readyz")
    assert (ready.status, ready.json()["database"]) == (503, "read-only")
    assert caplog.text.count("writes are refused") == 1
    read_only()
    eventually(lambda: shop.buy()[0].status == 201, 2)
    eventually(lambda: shop.client().get("/readyz").status == 200)
    assert "the database takes writes again" in caplog.text


def test_readyz_does_not_wait_for_a_locked_table_that_tells_of_housekeeping(shop):
    with psycopg.connect(shop.postgres.url("postgres")) as other:
        other.execute("LOCK TABLE m2_be_project.idempotency_keys IN ACCESS EXCLUSIVE MODE")
        started = time.monotonic()
        ready = shop.client().get("/readyz")
        assert (ready.status, ready.json()["housekeeping"]) == (200, "unknown")
        assert time.monotonic() - started < 1
    assert shop.client().get("/readyz").json()["housekeeping"] == "ok"


def test_connections_are_made_anew_after_ten_minutes(shop):
    assert shop.services.db._connections._pool.max_lifetime == 600


def test_a_url_may_have_options_of_its_own(postgres, with_settings):
    with with_settings(database_url=with_options(postgres.url("petstore_app"), statement_timeout="1s")) as (services, _):
        assert services.db.read(lambda conn: conn.execute("SHOW statement_timeout").fetchone()) == ("1s",)
