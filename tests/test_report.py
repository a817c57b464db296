import json
import shutil


def test_report_writes_the_page_its_appendix_its_figure_and_a_card(invoke, error_of, run_folder, models, tmp_path):
    results, model = tmp_path / "r.jsonl", tmp_path / "cnn_synthetic_int8.tflite"
    latencies = tmp_path / "l.jsonl"
    shutil.copy(models["int8"], model)
    assert "no records in" in error_of("dev", "report", "--results", results)
    invoke("bench", model, "--min-runs", "1", "--min-seconds", "0", "--record", latencies)
    options = ("--results", results, "--latencies", latencies, "--out", tmp_path / "c.md")
    assert "no record of its accuracy" in error_of("dev", "report", run_folder, *options, "--card", model)
    measured = invoke("evaluate", model, "--data", "synthetic:12", "--record", results, "--json")
    accuracy = json.loads(measured.stdout)[0]["metrics"]["accuracy"]
    result = invoke("dev", "report", run_folder, *options, "--card", model)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")
    assert "| cnn_nano" in (tmp_path / "c.md").read_text()
    assert str(results) in (tmp_path / "c-details.md").read_text()
    assert "cnn,synthetic,subject," in (tmp_path / "c.csv").read_text()
    card = model.with_suffix(".md").read_text()
    assert f"{accuracy:.4f} |" in card
    assert "EU AI Act" in card
    assert "recall in Keras" in card
