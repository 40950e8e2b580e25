"""Run independent tasks elsewhere: in processes of this machine, or on a Dask cluster.

Three calls: submit a task, take those that have ended, cancel the rest. A task is a pure function of its
input that writes one file, so that results go to storage and never through a scheduler, a task may run twice,
and what is in storage is never done again. :func:`workbench.engine.running.run_tasks` does all of it;
:func:`workbench.engine.opening.open_engine` opens an engine by its address.
"""
