from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allmend.data import Row, load, overlap, split
from allmend.data.likeness import likeness
from allmend.data.wording import normal

WORDS = [f"word{number}" for number in range(3000)]


def sentence(chance: random.Random, words: int = 20) -> list[str]:
    return [chance.choice(WORDS) for _ in range(words)]


def made(count: int, seed: int = 0) -> list[Row]:
    chance = random.Random(seed)
    return [Row(" ".join(sentence(chance)), chance.choice(["pos", "neg", "neg"]), place=f"f:{n}") for n in range(count)]


def sides(rows, **options):
    divided = split(rows, **options)
    return {rows[place].prompt + "|" + rows[place].completion: name
            for name in ("train", "select", "held_out") for place in getattr(divided, name)}  # fmt: skip


def test_every_row_is_on_one_side_and_shares_are_exact():
    divided = split(made(1000), select=0.1, held_out=200)
    assert sorted(divided.train + divided.select + divided.held_out) == list(range(1000))
    assert (len(divided.train), len(divided.select), len(divided.held_out)) == (700, 100, 200)


def test_the_order_of_rows_does_not_matter_and_the_seed_does():
    rows = made(500)
    rows += [Row(row.prompt.upper() + "!", row.completion) for row in rows[:40]]
    shuffled = rows.copy()
    random.Random(7).shuffle(shuffled)
    assert sides(rows, seed=3) == sides(shuffled, seed=3)
    assert sides(rows, seed=3) != sides(rows, seed=4)


def test_duplicates_and_near_duplicates_stay_on_one_side():
    chance = random.Random(1)
    rows, families = [], []
    for family in range(200):
        words = sentence(chance)
        changed = words.copy()
        changed[chance.randrange(20)] = "changed"
        texts = [" ".join(words), " ".join(words).upper() + " !!", " ".join(changed)]
        rows += [Row(text, chance.choice(["a", "b"])) for text in texts]
        families += [family] * 3
    divided = split(rows, select=0.2, held_out=0.2)
    assert divided.duplicates == 200
    assert divided.near_duplicates == 200, "one changed word of twenty is a near duplicate, every time"
    side_of = {}
    for name in ("train", "select", "held_out"):
        for place in getattr(divided, name):
            assert side_of.setdefault(families[place], name) == name


def test_many_labels_of_repeated_rows_still_leave_rows_to_select_and_to_judge_by():
    rows = made(200)
    rows = [Row(row.prompt, f"label {place % 40}") for place, row in enumerate(rows) for _ in range(2)]
    divided = split(rows)
    assert (len(divided.select), len(divided.held_out)) == (40, 40)


@pytest.mark.parametrize("copies", [30, 200])
def test_three_large_groups_are_a_group_each(copies):
    rows = [row for row in made(3) for _ in range(copies)]
    divided = split(rows)
    assert len(divided.train) == len(divided.select) == len(divided.held_out) == copies


def test_label_shares_are_kept():
    rows = made(600)
    divided = split(rows, select=0.1, held_out=0.2)
    for part in (divided.train, divided.select, divided.held_out):
        share = sum(rows[place].completion == "pos" for place in part) / len(part)
        assert share == pytest.approx(sum(row.completion == "pos" for row in rows) / 600, abs=0.01)


def test_a_frame_that_all_prompts_share_does_not_make_them_alike():
    frame = "You are a careful critic. Read the review below and say whether its writer liked the film or not. Review: "
    chance = random.Random(2)
    rows = [Row(frame + " ".join(sentence(chance, 12)), "pos") for _ in range(300)]
    assert split(rows).near_duplicates == 0
    assert len(split(rows, held_out=0.2).held_out) == 60


TICKET = "The customer writes that the parcel with the number {} has not arrived and asks where it is by now please"


def test_many_copies_of_one_text_with_another_number_are_no_frame():
    rows = made(175) + [Row(TICKET.format(1000 + n), "neg") for n in range(25)]
    alike = likeness([row.prompt for row in rows])
    assert alike.near_duplicates == 24 and not alike.framed
    for seed in range(5):
        divided = split(rows, seed=seed)
        for side in (divided.train, divided.select, divided.held_out):
            assert len({place for place in side if place >= 175}) in (0, 25)


def test_a_variant_of_such_a_text_is_found_by_what_they_share():
    texts = [row.prompt for row in made(175)] + [TICKET.format(1000 + n) for n in range(25)]
    texts.append(TICKET.replace("please", "today").format("7"))
    assert len(set(likeness(texts).groups[175:].tolist())) == 1


def test_a_long_frame_with_little_in_it_is_told_from_copies_and_said():
    frame = " ".join(f"rule{n}" for n in range(120))
    rows = [Row(f"{frame} {' '.join(sentence(random.Random(n), 6))}", "pos") for n in range(200)]
    divided = split(rows)
    assert divided.near_duplicates == 0 and len(divided.held_out) == 20
    assert any("taken for a frame" in note for note in divided.notes)


def test_half_of_the_rows_alike_end_up_in_train():
    rows = [Row("the very same text for everyone here", f"answer {n}") for n in range(50)] + made(50)
    divided = split(rows, held_out=0.2)
    assert set(range(50)) <= set(divided.train)
    assert len(divided.held_out) == 20


@pytest.mark.parametrize(("count", "held", "chosen"), [(1, 0, 0), (2, 0, 0), (3, 1, 1), (10, 1, 1)])
def test_few_rows(count, held, chosen):
    divided = split(made(count))
    assert (len(divided.held_out), len(divided.select)) == (held, chosen)


def test_asking_for_more_than_there_is_leaves_a_third_for_training():
    divided = split(made(90), held_out=500, select=500)
    assert len(divided.train) >= 30
    assert divided.held_out and divided.select


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        ("Good film!", "good  film", True),
        ("2 + 3 = ?", "2 - 3 = ?", False),
        ("Naïve café", "naïve CAFÉ", True),
        ("great 😀", "great 😡", False),
        ("它很好", "它不好", False),
        ("don't", "dont", True),
        ("!!!", "???", False),
    ],
)
def test_what_counts_as_the_same_text(left, right, same):
    assert (normal(left) == normal(right)) is same


def test_scripts_without_spaces_have_near_duplicates_too():
    text = "这部电影的故事非常感人演员的表演也很出色我会推荐给所有的朋友去看"
    assert (
        len(
            set(
                likeness(
                    [text, text.replace("出色", "精彩"), "完全不同的一句话说的是别的事情没有任何关系"]
                ).groups.tolist()
            )
        )
        == 2
    )


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.text(max_size=30), st.sampled_from(["a", "b", "c"])), max_size=60),
    st.integers(0, 2**64),
    st.floats(0, 0.9) | st.integers(0, 50),
    st.randoms(),
)
def test_any_rows_divide_without_leaks(rows, seed, held_out, chance):
    rows = [Row(prompt, completion) for prompt, completion in rows]
    divided = split(rows, seed=seed, held_out=held_out)
    assert sorted(divided.train + divided.select + divided.held_out) == list(range(len(rows)))
    groups = likeness([row.given for row in rows]).groups.tolist()
    parts = [{groups[place] for place in part} for part in (divided.train, divided.select, divided.held_out)]
    assert not (parts[0] & parts[1] or parts[0] & parts[2] or parts[1] & parts[2])
    order = list(range(len(rows)))
    chance.shuffle(order)
    again = split([rows[place] for place in order], seed=seed, held_out=held_out)
    assert sorted(order[place] for place in again.held_out) == divided.held_out


def test_overlap_finds_exact_and_near_repeats():
    rows = made(50)
    near = rows[7].prompt.split()
    near[4] = "other"
    held = [Row(rows[3].prompt.upper(), "x"), Row(" ".join(near), "x"), *made(5, seed=9)]
    assert overlap(rows, held) == [3, 7]


def test_load_tells_what_it_did(tmp_path):
    rows = made(100)
    path = tmp_path / "a.csv"
    path.write_text("text,label\n" + "".join(f"{row.prompt},{row.completion}\n" for row in rows))
    held = tmp_path / "held.csv"
    held.write_text(f"text,label\n{rows[0].prompt},{rows[0].completion}\nsomething else entirely,pos\n")
    dataset = load(path, seed=5)
    assert dataset.labels == ["neg", "pos"]
    assert dataset.examples.splits == {"train": 80, "select": 10, "held_out": 10}
    assert len(dataset) == dataset.examples.rows == 100
    assert dataset.examples.columns == {"prompt": "text", "completion": "label"}
    apart = load(path, held_out_source=held)
    assert apart.examples.splits == {"train": 89, "select": 10, "held_out": 2}
    assert any("1 training rows" in note for note in apart.examples.notes)
    assert type(apart.examples).from_json(apart.examples.to_json()) == apart.examples


def test_word_pairs_that_go_through_a_file_give_the_same(monkeypatch):
    """In many small pieces, with a file begun at once, as in one piece in memory."""
    chance = random.Random(3)
    texts = [row.prompt for row in made(120, 4)]
    texts += [" ".join([*text.split()[:-1], "changed"]) for text in texts[:30]] + ["short one", "", *texts[5:9]]
    chance.shuffle(texts)
    whole = likeness(texts)
    monkeypatch.setattr("allmend.data.word_pairs._AT_ONCE", 64)
    monkeypatch.setattr("allmend.data.word_pairs.IN_MEMORY", 1)
    monkeypatch.setattr("allmend.data.word_pairs._KNOWN_WORDS", 50)
    pieces = likeness(texts)
    assert pieces.groups.tolist() == whole.groups.tolist() and pieces.keys.tolist() == whole.keys.tolist()
    assert whole.near_duplicates == 30 and whole.duplicates == 4
