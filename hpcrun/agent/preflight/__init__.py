"""Before the command of several nodes: can it be launched there at all? (Python 3.8+)

The launcher's own words start one short task for each of the command's (`sight`), which tells on
its standard output what it sees; the agent collects that (`trial`), and a pure function judges it
(`judging`). What fails here is no fault of the command, which is then not started.
"""
