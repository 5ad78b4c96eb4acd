"""What the checks of chapter 12 share: functions as inputs, which a message can only show by their formula."""


def shown_as(formula, function):
    """`function`, whose name is its formula: a message shows that, and a learner can paste it."""
    function.__name__ = formula
    return function
