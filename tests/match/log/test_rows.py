"""Values of the log."""

from arena.log.rows import added_exits


def test_histograms_of_exits_add_up_whatever_their_lengths():
    assert added_exits(((1, 2),), ((10, 20, 30), (5,)), None) == ((11, 22, 30), (5,))
    assert added_exits() == ()
    assert added_exits(((5, 6),), ((-2, -1),)) == ((3, 5),)
