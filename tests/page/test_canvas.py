"""What all charts share."""

from harness.page import canvas


def test_a_chart_that_raises_says_so_and_no_more():
    def broken():
        raise ZeroDivisionError("with words that stay inside")

    drawn = canvas.draw("t", "Caption", "", broken)
    assert (drawn.failure, drawn.svg) == ("ZeroDivisionError", "")


def test_labels_are_cut_in_the_middle():
    assert canvas.fitted("resnet50_block3_conv2_3x3_stride2", 120) == "resnet5…_stride2"
    assert canvas.fitted("short", 120) == "short"
