"""The embedder in two processes of Dask, Ray Data and Daft, against a service that counts requests.

Ray and Daft are large: `nox -s distributed` installs them, elsewhere their tests are skipped.
"""

import os
from collections.abc import Iterator
from typing import Any

import dask.bag
import dask.dataframe as dd
import distributed
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from cfai.distributed import Embedder
from cfai.distributed._worker import current_worker
from cfai.errors import BadRequest
from cfai.testing import Service
from tests.distributed.service import M3, ThreadedService, as_matrix, matrix, served, texts

RATE = 2400
"""Requests per minute of all workers."""

LIMITED = Service(per_second=RATE / 60, burst=25)
"""It refuses what exceeds the rate. Two workers may send ten requests each at once, and it allows
five more, because requests that were sent in time can arrive late."""

HALF = Service(per_second=RATE / 60 / 2, burst=15)
"""It refuses what exceeds the share of one worker of two."""


# Dask


@pytest.fixture(scope="module")
def cluster() -> Iterator[distributed.Client]:
    """Two processes of two threads, with credentials in their environment."""
    known = {"CLOUDFLARE_ACCOUNT_ID": "account", "CLOUDFLARE_API_TOKEN": "the-workers-own-token"}
    with (
        distributed.LocalCluster(
            n_workers=2, processes=True, threads_per_worker=2, dashboard_address=None, env=known
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


def on_workers(service_thread: ThreadedService, **options: Any) -> Embedder:
    return Embedder(M3, client={"base_url": service_thread.fake.base_url}, workers=2, **options)


def embedding_processes(cluster: distributed.Client) -> int:
    def embeds() -> bool:
        return current_worker()._loop is not None

    return sum(cluster.run(embeds).values())


def test_a_cluster_embeds_chunks(
    cluster: distributed.Client, service_thread: ThreadedService
) -> None:
    """Both processes embed, and no text is lost."""
    chunks = [texts(400)[first : first + 20] for first in range(0, 400, 20)]
    # Where it goes is the scheduler's to decide, which may find one process enough.
    workers = list(cluster.scheduler_info()["workers"])
    embedder = on_workers(service_thread, batch_size=10)
    result = [
        cluster.submit(embedder, chunk, workers=workers[number % 2], pure=False)
        for number, chunk in enumerate(chunks)
    ]
    for chunk, vectors in zip(chunks, cluster.gather(result), strict=True):
        assert np.array_equal(as_matrix(vectors), matrix(chunk))
    assert embedding_processes(cluster) == 2
    sent = {request.headers["Authorization"] for request in service_thread.fake.requests}
    assert sent == {"Bearer the-workers-own-token"}
    assert service_thread.simulation.counters.requests == 40
    assert set(service_thread.simulation.counters.answered.values()) == {1}


def test_a_cluster_embeds_dataframes(
    cluster: distributed.Client, service_thread: ThreadedService
) -> None:
    """With `map_partitions`, by column and by table."""
    frame = pd.DataFrame({"id": range(90), "text": texts(90)}, index=range(100, 190))
    parts = dd.from_pandas(frame, npartitions=6)
    with_vectors = {**parts.dtypes, "vector": object}

    table = parts.map_partitions(
        on_workers(service_thread, column="text"), meta=with_vectors
    ).compute()
    assert list(table["id"]) == list(range(90))
    assert np.array_equal(as_matrix(table["vector"]), matrix(texts(90)))

    column = (
        parts["text"].map_partitions(on_workers(service_thread), meta=("vector", object)).compute()
    )
    assert (column.name, list(column.index)) == ("vector", list(range(100, 190)))
    assert np.array_equal(as_matrix(column), matrix(texts(90)))


def test_a_cluster_embeds_bags(
    cluster: distributed.Client, service_thread: ThreadedService
) -> None:
    """Whose partitions may be iterators."""
    bag = dask.bag.from_sequence(texts(60), npartitions=4).map(str.upper)
    result = bag.map_partitions(on_workers(service_thread)).compute()
    assert np.array_equal(as_matrix(result), matrix(text.upper() for text in texts(60)))


def test_errors_come_back_from_a_cluster_unchanged(cluster: distributed.Client) -> None:
    """With their class and message."""
    with (
        served(Service(poison=lambda text: text == "text 3")) as service_thread,
        pytest.raises(BadRequest) as caught,
    ):
        cluster.submit(on_workers(service_thread), texts(5)).result()
    assert (caught.value.status, caught.value.code) == (400, 5006)


def submit_to_each(cluster: distributed.Client, embedder: Embedder, count: int) -> list[Any]:
    """The vectors of two calls with *count* texts, one on each worker at the same time."""
    workers = list(cluster.scheduler_info()["workers"])
    calls = [cluster.submit(embedder, texts(count), workers=w, pure=False) for w in workers]
    return list(cluster.gather(calls))


def test_the_workers_of_dask_share_the_rate(cluster: distributed.Client) -> None:
    """Both at full speed send no more than the service allows in total."""
    with served(LIMITED) as service_thread:
        embedder = on_workers(service_thread, rate=RATE, batch_size=1)
        for vectors in submit_to_each(cluster, embedder, 50):
            assert np.array_equal(as_matrix(vectors), matrix(texts(50)))
        assert service_thread.simulation.counters.requests == 100
        assert service_thread.simulation.counters.refusals == 0


def test_a_busy_worker_keeps_to_its_share_while_the_other_idles(
    cluster: distributed.Client,
) -> None:
    """The share of the idle worker stays unused: it may start at any time."""
    with served(HALF) as service_thread:
        embedder = on_workers(service_thread, rate=RATE, batch_size=1)
        cluster.submit(embedder, texts(40), pure=False).result()
        assert service_thread.simulation.counters.requests == 40
        assert service_thread.simulation.counters.refusals == 0


def test_more_workers_than_the_embedder_knows_exceed_the_rate(cluster: distributed.Client) -> None:
    """The service notices it, and the call succeeds all the same."""
    with served(LIMITED) as service_thread:
        embedder = service_thread.embedder(workers=1, rate=RATE, batch_size=1)
        submit_to_each(cluster, embedder, 50)
        assert service_thread.simulation.counters.refusals > 0


# Ray Data and Daft


@pytest.fixture
def limited_service() -> Iterator[ThreadedService]:
    with served(LIMITED) as running:
        yield running


def check_rows(rows: list[dict[str, Any]], service_thread: ThreadedService) -> None:
    """Each row has its vector, two processes made them, and no request exceeded the rate."""
    rows = sorted(rows, key=lambda row: int(row["number"]))
    assert [row["text"] for row in rows] == texts(len(rows))
    assert np.array_equal(as_matrix([row["vector"] for row in rows]), matrix(texts(len(rows))))
    assert len({row["process"] for row in rows} - {os.getpid()}) == 2
    assert service_thread.simulation.counters.requests == len(rows)
    assert service_thread.simulation.counters.refusals == 0


def test_two_actors_of_ray_share_the_rate(limited_service: ThreadedService) -> None:
    """`map_batches` gets the class, and each actor makes its own."""
    ray = pytest.importorskip("ray", reason="run nox -s distributed")
    data = pytest.importorskip("ray.data")

    class Labeled(Embedder):
        def __call__(self, table: Any) -> Any:
            process = pa.array([os.getpid()] * len(table))
            return super().__call__(table).append_column("process", process)

    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        _node_ip_address="127.0.0.1",  # It would listen on all addresses.
    )
    try:
        data.DataContext.get_current().wait_for_min_actors_s = 300
        rows = [{"number": number, "text": text} for number, text in enumerate(texts(120))]
        embedded = data.from_items(rows, override_num_blocks=12).map_batches(
            Labeled,
            fn_constructor_args=[M3],
            fn_constructor_kwargs={
                "workers": 2,
                "column": "text",
                "rate": RATE,
                "batch_size": 1,
                "client": limited_service.client(),
            },
            compute=data.ActorPoolStrategy(size=2),
            batch_size=10,
            batch_format="pyarrow",
        )
        check_rows(embedded.take_all(), limited_service)
    finally:
        ray.shutdown()


def test_two_processes_of_daft_share_the_rate(limited_service: ThreadedService) -> None:
    """A class makes its embedder in each process."""
    daft = pytest.importorskip("daft", reason="run nox -s distributed")
    options: dict[str, Any] = {"workers": 2, "rate": RATE, "batch_size": 1}
    options["client"] = limited_service.client()
    vectors = daft.DataType.fixed_size_list(daft.DataType.float32(), 4)

    @daft.cls(max_concurrency=2, use_process=True)
    class Embed:
        def __init__(self) -> None:
            self.embedder = Embedder(M3, **options)

        @daft.method.batch(  # type: ignore[untyped-decorator]
            return_dtype=daft.DataType.struct(
                {"vector": vectors, "process": daft.DataType.int64()}
            ),
            batch_size=10,
        )
        def embed(self, column: Any) -> Any:
            process = pa.array([os.getpid()] * len(column))
            return pa.StructArray.from_arrays(
                [self.embedder(column), process], ["vector", "process"]
            )

    frame = daft.from_pydict({"number": list(range(120)), "text": texts(120)})
    rows = frame.with_column("result", Embed().embed(frame["text"])).to_pylist()
    check_rows([{**row, **row["result"]} for row in rows], limited_service)
