"""Train the five networks: datasets, splits, networks, recipes, fit, evaluate."""

if __name__ != "fer_edge.train":
    raise ImportError(f"import fer_edge.train, not {__name__}: install the project with pip install -e .")
