"""The Grafana dashboard asks for the series that a node and a reconciler really have, and for all of them."""

import json
import re
from pathlib import Path

import httpx
from prometheus_client import generate_latest

from softprompt.base_model import load_base_model
from softprompt.release.promotion.health import Health, Seen
from softprompt.release.store import open_store
from tests.serving_node import StatedChannel, name, node_of, server_of
from tests.waiting import wait_for

DASHBOARD = Path(__file__).resolve().parents[3] / "charts" / "softprompt" / "dashboards" / "softprompt.json"


def series(text: str) -> set[str]:
    """Names in Prometheus' text format."""
    return set(re.findall(r"^(softprompt_\w+)", text, flags=re.MULTILINE))


def test_each_series_has_a_panel_and_each_panel_its_series(llama_directory, tmp_path, s3_server):
    store = open_store(f"s3://softprompt/{tmp_path.name}", s3_server.access)
    channel = StatedChannel(tmp_path, store, load_base_model(llama_directory))
    prompt, shadow = channel.prompt(1), channel.prompt(2)
    channel.state({"colours": name(prompt, shadow=[shadow])})
    with node_of(channel) as node, server_of(node) as url:
        assert httpx.post(f"{url}/v1/completions", json={"model": "colours", "prompt": "ruby"}).status_code == 200
        node.metrics.on_shadow("colours", shadow.digest, "agreed")
        everything = lambda: series(node.metrics.text().decode())
        # Once its answer has left.
        wait_for(lambda: "softprompt_requests_total" in everything(), "the request is counted", every_seconds=0.01)
        said = everything()
    health = Health("live")
    health.saw(Seen(outcome="refused", generation=1, commit="", expires=0.0))
    said |= series(generate_latest(health.registry).decode())
    said = {found for found in said if not found.endswith(("_created", "_sum", "_count"))}
    assert set(re.findall(r"softprompt_\w+", DASHBOARD.read_text())) == said


def test_panels_do_not_overlap_and_say_what_they_show():
    panels = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        assert not taken & cells, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
        assert panel["type"] == "row" or panel["description"]
