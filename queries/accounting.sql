-- What became of all records of the traces topic? Is any lost?
-- Of the whole installation: for readers of all tenants.
select accepted, verdicts, unjudged, dead_letters, duplicates, in_flight, pending, lost
from report.accounting;
