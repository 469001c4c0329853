"""How long an answer takes: modelled servers, networks, countermeasures in time."""
