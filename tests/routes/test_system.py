def test_livez_and_readyz_say_yes(anyone):
    assert (anyone.get("/livez").status, anyone.get("/livez").json()) == (200, {"status": "ok"})
    ready = anyone.get("/readyz")
    assert (ready.status, ready.json()) == (200, {"status": "ready", "database": "ok", "cache": "ok"})


def test_another_schema_version_is_not_ready_until_it_is_back(make, anyone):
    make.conn.execute("INSERT INTO schema_version (version) VALUES (999)")
    try:
        answer = anyone.get("/readyz")
        assert (answer.status, answer.json()["database"], answer["Retry-After"]) == (503, "wrong", "1")
        assert "999" not in answer.json()["detail"]  # what is wrong with it is for the log
        assert anyone.get("/products").status == 503
        assert anyone.get("/livez").status == 200
    finally:
        make.conn.execute("DELETE FROM schema_version WHERE version = 999")
    assert anyone.get("/readyz").status == 200
    assert anyone.get("/products").status == 200
