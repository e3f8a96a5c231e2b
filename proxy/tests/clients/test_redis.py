"""redis-py as applications use it: sync and asyncio, RESP2 and RESP3.

Two servers stand behind the proxy, except where the embedded pool is asked
for. What needs a server connection of its own (transactions, subscriptions,
blocking commands) has to fail with a clear error and nothing worse.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis
import redis.asyncio

VERSIONS = [2, 3]


@pytest.fixture(params=VERSIONS, ids=["resp2", "resp3"])
def client(proxy, request):
    port = proxy(redis=2).redis
    with redis.Redis(port=port, protocol=request.param) as client:
        client.flushall()
        yield client


@pytest.fixture(params=VERSIONS, ids=["resp2", "resp3"])
def embedded(proxy, request):
    with redis.Redis(port=proxy().redis, protocol=request.param, decode_responses=True) as client:
        client.flushall()
        yield client


def test_connecting_says_who_the_client_is(client):
    # redis-py sends HELLO and CLIENT SETINFO of its own accord.
    assert client.ping()
    assert client.client_info()["lib-name"].startswith("redis-py")
    assert client.client_setname("someone")
    assert client.client_getname() in ("someone", b"someone")
    assert client.client_id() > 0


def test_every_kind_of_value_comes_back(client):
    assert client.set("string", b"\x00\r\n\xff")
    assert client.get("string") == b"\x00\r\n\xff"
    assert client.get("missing") is None
    assert client.set("string", "other", nx=True) is None
    assert client.incr("counter", 5) == 5
    assert client.incrbyfloat("float", "1.5") == 1.5
    assert client.rpush("list", "a", "b", "c") == 3
    assert client.lrange("list", 0, -1) == [b"a", b"b", b"c"]
    assert client.hset("hash", mapping={"f": 1, "g": 2}) == 2
    assert client.hgetall("hash") == {b"f": b"1", b"g": b"2"}
    assert client.sadd("set", "x", "y") == 2
    assert client.smembers("set") == {b"x", b"y"}
    assert client.zadd("sorted", {"a": 1, "b": 2.5}) == 2
    assert client.zscore("sorted", "b") == 2.5
    entries = client.zrange("sorted", 0, -1, withscores=True)
    assert [tuple(entry) for entry in entries] == [(b"a", 1.0), (b"b", 2.5)]
    assert client.expire("string", 100)
    assert 0 < client.ttl("string") <= 100
    assert client.type("hash") == b"hash"
    identity = client.xadd("stream", {"f": "v"})
    assert client.xlen("stream") == 1
    assert client.xrange("stream")[0][0] == identity
    assert client.eval("return redis.call('GET', KEYS[1])", 1, "counter") == b"5"


def test_commands_of_many_keys_reach_every_server(client):
    values = {f"key:{i}": f"value:{i}".encode() for i in range(200)}
    assert client.mset(values)
    assert client.mget(values) == list(values.values())
    assert client.mget(["key:0", "missing", "key:199"]) == [b"value:0", None, b"value:199"]
    assert client.dbsize() == 200
    assert client.exists(*values) == 200
    assert client.touch(*values) == 200
    assert client.delete(*list(values)[:150]) == 150
    assert client.unlink(*values) == 50
    assert client.mset(values) and client.flushdb()
    assert client.dbsize() == 0
    assert sorted(client.keys("key:*")) == []


def test_a_large_value_survives(client):
    value = bytes(range(256)) * 8192
    assert client.set("large", value)
    assert client.get("large") == value
    assert client.strlen("large") == len(value)


def test_pipelines_answer_in_order(client):
    with client.pipeline(transaction=False) as pipeline:
        for i in range(2000):
            pipeline.set(f"key:{i % 50}", i)
            pipeline.get(f"key:{i % 50}")
        pipeline.lpush("key:0", "wrong kind")
        pipeline.get("key:1")
        replies = pipeline.execute(raise_on_error=False)
    assert replies[1:4000:2] == [str(i).encode() for i in range(2000)]
    assert isinstance(replies[4000], redis.ResponseError)
    assert replies[4001] == b"1951"


def test_twenty_threads_share_a_connection_pool(proxy):
    port = proxy(redis=2).redis
    pool = redis.ConnectionPool(port=port, max_connections=20, decode_responses=True)
    shared = redis.Redis(connection_pool=pool)

    def work(thread):
        for i in range(200):
            key = f"thread:{thread}:{i % 7}"
            assert shared.set(key, f"{thread}:{i}")
            assert shared.get(key) == f"{thread}:{i}"
            assert shared.mget(key, "missing") == [f"{thread}:{i}", None]
        return thread

    with ThreadPoolExecutor(20) as threads:
        assert sorted(threads.map(work, range(20))) == list(range(20))
    pool.disconnect()


def test_errors_have_the_class_that_the_client_knows(client):
    client.rpush("list", "a")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE|wrong kind"):
        client.get("list")
    with pytest.raises(redis.ResponseError, match="wrong number of arguments"):
        client.execute_command("GET")
    with pytest.raises(redis.exceptions.NoScriptError):
        client.evalsha("0" * 40, 1, "key")
    with pytest.raises(redis.ResponseError, match="unknown command"):
        client.execute_command("NO.SUCH.COMMAND", "a")
    with pytest.raises(redis.exceptions.AuthenticationError, match="without any password"):
        client.execute_command("AUTH", "wrong")
    # None of it has cost the connection.
    assert client.lrange("list", 0, -1) == [b"a"]


def test_what_is_not_there_yet_says_so(client):
    for refused in (
        lambda: client.execute_command("MULTI"),
        lambda: client.execute_command("WATCH", "key"),
        lambda: client.execute_command("BLPOP", "key", "0"),
        lambda: client.execute_command("SUBSCRIBE", "channel"),
        lambda: client.execute_command("SELECT", "1"),
    ):
        with pytest.raises(redis.ResponseError, match="proxy"):
            refused()
    assert client.execute_command("SELECT", "0") in (True, b"OK")
    assert client.ping()


def test_text_is_decoded(proxy):
    port = proxy(redis=2).redis
    with redis.Redis(port=port, decode_responses=True) as client:
        client.set("ключ", "значение ☃")
        assert client.get("ключ") == "значение ☃"
        assert client.info("server")["redis_version"]
        assert client.config_get("maxmemory") == {"maxmemory": "0"}
        assert client.time()[0] > 0
        assert "get" in client.command()


@pytest.mark.parametrize("protocol", VERSIONS)
def test_asyncio_clients_work_side_by_side(proxy, protocol):
    port = proxy(redis=2).redis

    async def work(client, number):
        for i in range(100):
            assert await client.set(f"async:{number}", i)
            assert await client.get(f"async:{number}") == str(i)
        async with client.pipeline(transaction=False) as pipeline:
            for i in range(100):
                pipeline.incr(f"count:{number}")
            return (await pipeline.execute())[-1]

    async def main():
        client = redis.asyncio.Redis(port=port, protocol=protocol, decode_responses=True)
        await client.flushall()
        results = await asyncio.gather(*(work(client, number) for number in range(10)))
        await client.aclose()
        return results

    assert asyncio.run(main()) == [100] * 10


def test_the_embedded_pool_needs_no_server(embedded):
    assert embedded.set("a", "1", ex=100)
    assert embedded.get("a") == "1"
    assert 0 < embedded.ttl("a") <= 100
    assert embedded.incr("a") == 2
    assert embedded.mset({f"key:{i}": i for i in range(500)})
    assert embedded.dbsize() == 501
    assert sorted(embedded.scan_iter("key:*", count=20)) == sorted(f"key:{i}" for i in range(500))
    assert embedded.delete("key:1", "key:2", "missing") == 2
    with embedded.pipeline(transaction=False) as pipeline:
        for i in range(500):
            pipeline.get(f"key:{i}")
        assert pipeline.execute()[3:] == [str(i) for i in range(3, 500)]
    with pytest.raises(redis.ResponseError, match="embedded pool does not support"):
        embedded.lpush("list", "a")
    assert embedded.ping()
