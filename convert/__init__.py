"""Turn a run folder into TFLite files: fold, quantise, attach the contract, verify."""

if __name__ != "fer_edge.convert":
    raise ImportError(f"import fer_edge.convert, not {__name__}: install the project with pip install -e .")
