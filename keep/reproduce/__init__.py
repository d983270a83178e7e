"""``keep reproduce``: the paper's tables, and from stored predictions to their figures.

The order in which these are used is in ``keep.recipes.reproduce``::

    registration.py    a plan written down before a test day is read, and the ledger of reads
    plan.py            which run is which row of which table
    jobs.py            the pieces of work behind the runs; pool.py does them in processes
    workshop.py        DIR/work/, and what a process keeps of it in memory
    groups.py          table 7's groups of users
    controls.py        rankings that the compared systems are held against
    predictions.py     DIR/predictions/TABLE/ROW/SEED.parquet: a row's scores of the test day
    statistics.py      paired lifts of GAUC and their bootstrap intervals
    oracle.py          the oracle over every run
    paper.py           what the paper printed
    results.py         planned rows -> DIR/results.json
    worlds.py          runs of several worlds -> the results of all, and which variant pays
    report.py          results -> DIR/report.md and the terminal
    plots.py           results -> DIR/plots/
    verdicts.py        results -> which claims, made before the first run, hold
    page.py            results committed in docs/reproduction/, and verdicts -> docs/reproduction.md
    circumstances.py   machine, date, commit and versions
"""
