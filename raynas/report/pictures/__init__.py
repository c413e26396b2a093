"""The pictures of a run, one a file: each a function from a run's data to a plotly figure.

A picture that has nothing to show raises ``NothingToDraw`` with the reason in one sentence.
Whatever a user named (labels, options, metrics) is escaped, since plotly reads its texts as HTML.
"""
