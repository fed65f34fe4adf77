"""Forests that would keep Annoy for ever, or take all the memory there is, are refused before Annoy sees them."""

from pathlib import Path

import numpy as np
import pytest
from bounded import run_bounded
from forests import Forest, build_index, copied, sign

from ae_search.errors import IndexDamagedError
from ae_search.index import LatentIndex

ITEMS = 600
PROBE = Path(__file__).with_name("open_and_search.py")
# Python, NumPy and Annoy take about 60 MiB.
MIB = 300


@pytest.fixture(scope="module", params=["angular", "euclidean"])
def metric(request):
    return request.param


@pytest.fixture(scope="module")
def template(tmp_path_factory, metric):
    return build_index(tmp_path_factory.mktemp("template") / "index", items=ITEMS, metric=metric)


@pytest.fixture
def generation(template, tmp_path):
    return copied(template, tmp_path / "index")


@pytest.fixture
def forest(generation, metric):
    return Forest(generation, metric)


def root(forest):
    return forest.words[-1]


def splits(forest):
    return [at for at in range(ITEMS, len(forest.words) - 4) if forest.words[at, 0] > forest.capacity]


def lists(forest):
    return [at for at in range(ITEMS, len(forest.words)) if forest.words[at, 0] <= forest.capacity]


def many_roots(forest):
    forest.write(forest.words, np.tile(root(forest), (20_000, 1)))
    return {"effort": 2**31 - 1}


def many_roots_within_the_manifests_bounds(forest):
    forest.write(forest.words, np.tile(root(forest), (20_000, 1)))
    return {"effort": 10_000 * ITEMS, "engine": {"name": "annoy", "n_trees": 10_000}}


def many_trees_that_share_all_but_their_roots(forest):
    trees = np.tile(root(forest), (10_000, 1))
    forest.write(forest.words[:-4], trees, trees)
    return {"effort": 10_000 * ITEMS, "engine": {"name": "annoy", "n_trees": 10_000}}


def more_trees_than_the_command_builds(forest):
    return {"engine": {"name": "annoy", "n_trees": 10_001}}


def two_trees_that_share_a_node(forest):
    first, second = [at for at in splits(forest) if forest.words[at, 0] == ITEMS][:2]
    forest.words[second] = forest.words[first]
    forest.words[-4:] = forest.words[[at for at in splits(forest) if forest.words[at, 0] == ITEMS]]
    forest.write()


def a_node_that_nobody_leads_to(forest):
    forest.write(forest.words[:ITEMS], forest.words[lists(forest)[:1]], forest.words[ITEMS:])


def a_list_that_repeats_an_item(forest):
    at = max(lists(forest), key=lambda at: forest.words[at, 0])
    forest.words[at, forest.child : forest.child + forest.words[at, 0]] = 5
    forest.write()


def a_list_that_leaves_one_item_out(forest):
    at = lists(forest)[0]
    forest.words[at, forest.child] = (forest.words[at, forest.child] + 1) % ITEMS
    forest.write()


def counts_that_lie(forest):
    for at in lists(forest):
        forest.words[at, 0] = 2
    forest.write()


def counts_that_add_up_beyond_32_bits(forest):
    forest.words[splits(forest)[0], 0] = 2**31 - 1
    forest.write()


def copies_that_are_no_copies(forest):
    one = forest.node(ITEMS, [0, 1])
    forest.words[-4:] = one
    forest.write()


def nothing_but_roots_that_list_nothing(forest):
    forest.write(forest.words[:ITEMS], np.tile(forest.node(0, []), (20_000, 1)))


def more_items_than_nodes(forest):
    return {"items": 2**31 - 1}


def more_items_than_there_are(forest):
    return {"items": ITEMS + 5}


def fewer_items_than_there_are(forest):
    return {"items": ITEMS - 5}


def a_search_beyond_the_forest(forest):
    return {"effort": 2**31 - 1}


def a_plane_that_is(value):
    def attack(forest):
        forest.vectors[splits(forest)[-1], 3] = value
        at = splits(forest)[-1]
        forest.words[-1] = forest.words[at]  # it is the last root
        forest.write()

    return attack


def an_item_that_is(value):
    def attack(forest):
        forest.vectors[70, 3] = value
        forest.write()

    return attack


def an_item_with_a_norm_that_is(value):
    def attack(forest):
        forest.words[70, 1:2].view("<f4")[:] = value
        forest.write()

    return attack


ATTACKS = {
    attack.__name__: attack
    for attack in (
        many_roots,
        many_roots_within_the_manifests_bounds,
        many_trees_that_share_all_but_their_roots,
        more_trees_than_the_command_builds,
        two_trees_that_share_a_node,
        a_node_that_nobody_leads_to,
        a_list_that_repeats_an_item,
        a_list_that_leaves_one_item_out,
        counts_that_lie,
        counts_that_add_up_beyond_32_bits,
        copies_that_are_no_copies,
        nothing_but_roots_that_list_nothing,
        more_items_than_nodes,
        more_items_than_there_are,
        fewer_items_than_there_are,
        a_search_beyond_the_forest,
    )
}
for make in (a_plane_that_is, an_item_that_is, an_item_with_a_norm_that_is):
    ATTACKS |= {f"{make.__name__}_{value}": make(value) for value in (np.nan, np.inf, -np.inf)}
ATTACKS |= {"an_item_that_is_large": an_item_that_is(1e30), "a_plane_that_is_large": a_plane_that_is(1e30)}


@pytest.mark.parametrize("name", ATTACKS)
def test_it_is_refused_at_open(forest, generation, name):
    changes = ATTACKS[name](forest)
    sign(generation, **(changes or {}))
    with pytest.raises(
        IndexDamagedError, match=r"forest\.ann is damaged|manifest\.json is no valid manifest|names\.bin"
    ):
        LatentIndex.open(generation.parent)


@pytest.mark.parametrize(
    "name",
    [
        "many_roots",
        "many_roots_within_the_manifests_bounds",
        "many_trees_that_share_all_but_their_roots",
        "more_items_than_nodes",
        "an_item_that_is_nan",
    ],
)
def test_it_is_refused_with_little_memory_and_time(forest, generation, tmp_path, victim, name):
    changes = ATTACKS[name](forest)
    sign(generation, **(changes or {}))
    ended = run_bounded(["python", PROBE, generation.parent], folder=tmp_path, timeout_s=60)
    assert (ended.code, ended.stdout[:7], ended.stderr) == (0, "damaged", "")
    assert ended.peak_mib < MIB


def test_the_forest_as_it_was_built_answers(generation, tmp_path, victim):
    sign(generation)
    ended = run_bounded(["python", PROBE, generation.parent], folder=tmp_path, timeout_s=60)
    assert (ended.code, ended.stdout) == (0, f"searched {ITEMS}\n"), ended.stderr
    assert ended.peak_mib < MIB


def chain(forest, items):
    """Return nodes of one tree that is as deep as it can be: each split leads to one item and the next split."""
    nodes = [forest.node(forest.capacity, range(forest.capacity))]
    for item in range(forest.capacity, items):
        nodes.append(forest.node(item + 1, [item, items + len(nodes) - 1]))
    return np.array([*nodes, nodes[-1]])


def test_a_tree_as_deep_as_can_be_is_searched_in_no_time(tmp_path, metric, victim):
    """Nothing is wrong with it but that Annoy does not build such trees."""
    items = 10_000
    generation = build_index(tmp_path / "index", items=items, metric=metric, n_trees=1)
    forest = Forest(generation, metric)
    forest.write(forest.words[:items], chain(forest, items))
    sign(generation, effort=items)
    ended = run_bounded(["python", PROBE, generation.parent], folder=tmp_path, timeout_s=60)
    assert (ended.code, ended.stdout) == (0, f"searched {items}\n"), ended.stderr
    assert ended.peak_mib < MIB


@pytest.mark.parametrize("command", ["verify", "tune"])
def test_commands_say_so_in_one_line(forest, generation, tmp_path, command, victim):
    forest.vectors[70, 3] = np.nan
    forest.write()
    sign(generation)
    arguments = ["ae-search", "index", command, "--index", generation.parent]
    ended = run_bounded(arguments, folder=tmp_path, timeout_s=60)
    assert ended.code == 1
    assert "forest.ann is damaged" in ended.stdout + ended.stderr
    assert "Traceback" not in ended.stderr
