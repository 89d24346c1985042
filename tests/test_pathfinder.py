"""The generated Pathfinder task: what a scene is, what tells the class and what doesn't."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
import torch

from ssconv_lib import pathfinder
from ssconv_lib.data import load, parse_spec
from ssconv_lib.pathfinder import (
    CLEAR,
    DASH,
    GAP,
    MARGIN,
    NEAR,
    TOLERANCE,
    Pathfinder,
    draw_lengths,
    draw_scenes,
    generate,
    length,
    render,
)
from ssconv_lib.run import Run
from ssconv_lib.seeds import mixed_seed

SPEC = Pathfinder(train=40, test=2000)
GOLDEN = "aeed8223f3989e51"
ENDS = [(start, end) for start in (0, 1) for end in (0, 1)]  # contours whose start and end have the dots


@pytest.fixture(scope="module")
def scenes():
    """The scenes of `shown`, and the order in which that shows them, four times each."""
    rng = np.random.default_rng(mixed_seed(SPEC.seed, SPEC.name, "test"))
    order = rng.permutation(2000)
    return *draw_scenes(SPEC, 500, rng), order // 4


@pytest.fixture(scope="module")
def shown():
    return generate(SPEC, "test")


def dots(contours):
    """Distances (N, 4) between the dots of all four pairs of ends; those of the same contour are columns 0 and 3."""
    return np.stack([contours[:, start, 0, 0] - contours[:, end, -1, 1] for start, end in ENDS], axis=1)


def chance(values, labels):
    """The share of right answers of the best threshold on one number, in either direction."""
    order = np.argsort(values, kind="stable")
    return 0.5 + np.abs(np.cumsum(np.where(labels[order] == 1, 1, -1))).max() / len(labels)


def centres(images):
    """The dots' centres (N, 2, row and column), found in the images: what is red, in two lumps."""
    red = images[..., 0] - images[..., 1]
    found = []
    for image in red:
        where = np.argwhere(image > 0.5)
        first = where[np.abs(where - where[0]).max(1) <= 6]
        other = where[np.abs(where - where[0]).max(1) > 6]
        found.append([first.mean(0), other.mean(0)])
    return np.array(found)


# ---- scenes


def test_a_contour_is_a_chain_of_equal_dashes_with_equal_gaps_and_bounded_turns(scenes):
    contours, distractors, _ = scenes
    assert contours.shape == (500, 2, 6, 2, 2)
    assert distractors.shape == (500, 2, 2, 2)
    along = contours[..., 1, :] - contours[..., 0, :]
    assert np.abs(length(along) - DASH).max() < 1e-3
    assert np.abs(length(distractors[:, :, 1] - distractors[:, :, 0]) - DASH).max() < 1e-3
    cosines = (along[:, :, 1:] * along[:, :, :-1]).sum(-1) / DASH**2
    assert cosines.min() > np.cos(np.radians(57))  # 40 of 256 headings
    joints = length(contours[:, :, 1:, 0] - contours[:, :, :-1, 1])
    assert joints.max() < GAP + 1e-3  # half a gap along either heading
    assert joints.min() > GAP * np.cos(np.radians(29))


def test_what_are_no_neighbours_of_a_contour_keep_clear_of_each_other(scenes):
    contours, distractors, _ = scenes
    steps = np.linspace(0, 1, 5)[:, None]
    objects = [contours[:, k] for k in (0, 1)] + [distractors[:, k : k + 1] for k in (0, 1)]
    points = [
        (d[:, :, None, 0] * (1 - steps) + d[:, :, None, 1] * steps).reshape(len(d), -1, 2) for d in objects
    ]  # five of each dash
    for k, one in enumerate(points):
        for other in points[:k]:
            assert length(one[:, :, None] - other[:, None]).min() > CLEAR - DASH / 4
    assert min(p.min() for p in points) >= MARGIN
    assert max(p.max() for p in points) <= SPEC.size - 1 - MARGIN


def test_a_scene_has_the_same_distances_in_both_classes(scenes):
    step = dots(scenes[0])
    apart = np.sort(length(step)[:, [[0, 3], [1, 2]]], axis=2)  # (N, class, 2)
    assert np.abs(apart[:, 0] - apart[:, 1]).max() <= TOLERANCE
    assert np.abs((apart**2).sum(2) @ [1, -1]).max() < 0.3  # by Thales, to the table's rounding
    assert np.abs(step).max(2).min() >= SPEC.distance


def test_training_images_have_as_many_contours_of_each_length_and_test_images_the_longest_alone():
    rng = np.random.default_rng(0)
    contours, distractors = draw_lengths(SPEC, 50, 2, rng)
    assert (contours.shape, distractors.shape) == ((50, 2, 6, 2, 2), (50, 2, 2, 2))
    dashes = [[len(np.unique(contour, axis=0)) for contour in scene] for scene in contours]
    assert dashes == [[k, k] for k in (6, 5, 4, 3, 2) for _ in range(10)]
    far = np.abs(dots(contours)).max(2).min(1)
    assert far[:10].min() >= SPEC.distance
    assert NEAR <= far[40:].min() < 10
    few = replace(SPEC, test=8)
    one_length = replace(few, shortest=6)
    assert np.array_equal(generate(one_length, "test")[0], generate(few, "test")[0])
    assert generate(one_length, "train")[0][..., 1].sum() > 1.2 * generate(few, "train")[0][..., 1].sum()


def test_few_images_are_of_the_longest_contours_first():
    assert len(draw_lengths(SPEC, 2, 2, np.random.default_rng(0))[0]) == 2
    assert len(generate(replace(SPEC, train=5), "train")[0]) == 5


def test_all_scenes_are_different(scenes):
    contours = scenes[0].reshape(500, -1)
    assert len(np.unique(contours, axis=0)) == 500
    shapes = (scenes[0] - scenes[0][:, :, :1, :1])[:, 0].reshape(500, -1)
    assert len(np.unique(shapes, axis=0)) == 500


# ---- what tells the class


def test_each_scene_is_shown_with_every_pair_of_ends_so_that_no_view_of_one_dot_tells_the_class(scenes, shown):
    images, labels = shown
    contours, _, scene = scenes
    ends = np.concatenate([contours[:, :, 0, 0], contours[:, :, -1, 1]], axis=1)  # (scene, 4 ends, row and column)
    off = length(ends[scene][:, None] - centres(images)[:, :, None])  # (N, dot, end)
    assert off.min(2).max() < 0.6
    count = np.zeros((500, 2, 4), dtype=int)
    np.add.at(count, (scene[:, None], labels[:, None], off.argmin(2)), 1)
    assert (count == 1).all()


def test_no_window_of_16_pixels_touches_both_dots(shown):
    """The field of `long_range_cnn`, whose units are then terms of one dot each."""
    for image, pair in zip(shown[0], centres(shown[0]), strict=True):
        where = np.argwhere(image[..., 0] > image[..., 1])
        first = np.abs(where - pair[0]).max(1) < 5
        step = np.abs(where[first][:, None] - where[~first][None]).max(2)  # of pixels of different dots
        assert step.min() + 1 > 16


def test_neither_the_distance_of_the_dots_nor_the_ink_tells_the_class(shown):
    images, labels = shown
    step = np.diff(centres(images), axis=1)[:, 0]
    assert chance(length(step), labels) < 0.53
    assert chance(np.abs(step).max(1), labels) < 0.53
    for channel in range(3):
        assert chance(images[..., channel].sum((1, 2)), labels) < 0.53
    assert chance(labels.astype(float), labels) == 1, "what tells the class is found by this measure"


def test_following_the_contour_from_a_dot_leads_to_the_other_dot_in_one_class_alone(shown):
    """A solution by hand: from dash to nearest dash, straight on; it needs no knowledge of how images are drawn."""
    images, labels = shown
    answers = np.array([follow_by_hand(*pair) for pair in zip(images[:200], centres(images[:200]), strict=True)])
    assert (answers == labels[:200]).mean() > 0.75


def follow_by_hand(image, pair):
    """Whether steps of 1 pixel along what is lit lead from one dot to the other."""
    lit = image.max(2)
    here, goal = pair
    heading = None
    for _ in range(60):
        angles = np.arange(0, 2 * np.pi, np.pi / 24)
        ways = np.stack([np.sin(angles), np.cos(angles)], axis=1)
        score = np.zeros(len(ways))
        for reach in (1, 2, 3, 4):
            at = np.rint(here + ways * reach).astype(int).clip(0, len(lit) - 1)
            score += lit[at[:, 0], at[:, 1]]
        if heading is not None:
            score[ways @ heading < 0.6] = -1
            score += 0.5 * (ways @ heading)
        heading = ways[score.argmax()]
        here = here + heading
        if length(here - goal) < 2.5:
            return 1
    return 0


def test_classes_are_balanced_and_splits_and_seeds_differ(shown):
    images, labels = shown
    assert labels.dtype == np.int64
    assert labels.mean() == 0.5
    assert images.dtype == np.float32
    assert images.shape == (2000, 32, 32, 3)
    other = generate(replace(SPEC, train=8, seed=1), "train")[0]
    assert not np.array_equal(generate(replace(SPEC, train=8), "train")[0], other)
    few = replace(SPEC, train=8, test=8, shortest=6)
    assert not np.array_equal(generate(few, "train")[0], generate(few, "test")[0])


# ---- images


def test_dashes_are_white_dots_red_and_pixels_the_share_that_is_covered():
    dash = np.array([[[[8.0, 4.0], [8.0, 6.5]]]])
    dots = np.array([[[8.0, 16.0], [16.0, 8.0]]])
    image = render(24, dash, dots)[0]
    assert image[8, 4:7].min() == 1
    assert image[7, 5] == pytest.approx(0.1)  # half a width of .6 and half a pixel, less a distance of 1
    assert image[7, 2].max() == 0
    assert image[8, 3] == pytest.approx(0.1)
    assert image[8, 16].tolist() == [1, 0, 0]
    assert image[8, 18].tolist() == pytest.approx([0.25, 0, 0])
    assert image[16, 10].tolist() == pytest.approx([0.25, 0, 0])
    assert np.count_nonzero(image[..., 2]) == 5 + 2 * 3


def test_golden_images():
    """Bits that another machine must draw, too."""
    images, labels = generate(SPEC, "train")
    assert "".join(map(str, labels)) == "1011000010001111010001110001011100111001"
    assert hashlib.sha256(images.tobytes()).hexdigest()[:16] == GOLDEN


def test_the_headings_are_multiples_of_a_power_of_two_and_mirror_each_other():
    assert (pathfinder.DIRECTIONS * 4096 % 1 == 0).all()
    assert np.array_equal(pathfinder.DIRECTIONS[1:128], pathfinder.DIRECTIONS[:128:-1] * [-1, 1])
    assert np.abs(length(pathfinder.DIRECTIONS) - 1).max() < 2e-4


# ---- a data set


def test_it_is_a_data_set_of_a_run():
    spec = parse_spec({"name": "pathfinder", "train": 12, "test": 8})
    assert spec == Pathfinder(train=12, test=8)
    data = load(spec)
    assert data.train.images.shape == (12, 3, 32, 32)
    assert (data.num_classes, data.input_size, data.normalise, data.augment) == (2, (3, 32, 32), "none", False)
    images, labels = generate(spec, "test")
    assert torch.equal(data.test.images, torch.from_numpy(images).permute(0, 3, 1, 2))
    assert data.test.labels.tolist() == labels.tolist()
    run = Run(data=spec, model="long_range_cnn_d8", epochs=1)
    assert Run.from_dict(run.to_dict()) == run


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"dashes": 1}, "dashes is 1.*at least 2"),
        ({"distractors": -1}, "distractors is -1"),
        ({"train": 0}, "train is 0"),
        ({"shortest": 1}, "shortest is 1.*at least 2"),
        ({"shortest": 7}, "shortest is 7.*at most dashes = 6"),
        ({"size": 32.0}, "size is 32.0.*int"),
        ({"distance": 28}, "distance is 28.*6 dashes.*32 pixels.*at most 27 apart"),
        ({"dashes": 4}, "distance is 20.*4 dashes.*at most 17.5"),
    ],
)
def test_impossible_values_are_named(fields, message):
    with pytest.raises(ValueError, match=message):
        Pathfinder(**fields)


def test_a_task_without_room_is_refused():
    with pytest.raises(ValueError, match="dashes=12.*fewer dashes"):
        generate(Pathfinder(dashes=12, train=8), "train")
