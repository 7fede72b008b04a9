# make demo   sets up, finds the face in a photo with CenterFace, trains a small network on drawn images, evaluates it and
#             draws what it finds (4 to 7 minutes on two CPU cores)
# make test   sets up, checks style and types, runs the quick tests; `make test-slow` runs the others,
#             `make test-reliability` those of docs/reliability.md (at most 20 minutes)
PYTHON ?= python3
BIN := .venv/bin
DEMO := output/demo
WORKERS ?= 2
# A photo that is free (of the US Navy) and comes with Matplotlib.
FACE := import matplotlib.cbook as c; print(c.get_sample_data('grace_hopper.jpg', asfileobj=False))
# Half of the usual schedule.
SHORT := SOLVER.MAX_ITER=1000 'SOLVER.STEPS=(750,920)' SOLVER.WARMUP_ITERS=50
# An image that the network has not seen, for README's script.
PHOTO := import cv2, centernet_d2.data.image_io as reading; \
	cv2.imwrite('$(DEMO)/photo.jpg', reading.read_image({'file_name': 'synthetic://synthetic_shapes_val/0'}))
# Threads that wait for each other would otherwise spin, many times slower where something else runs too.
export OMP_WAIT_POLICY ?= PASSIVE

# In tests/.
RELIABILITY := api/test_detector.py checkpoint cli/test_help.py cli/test_predict.py data/formats/test_numbers.py \
	data/preparation/test_archives.py data/test_build.py data/test_image_io.py data/transforms/test_affine.py \
	data/validation/test_validation.py engine/test_distributed.py engine/test_gradients.py engine/device/test_host_waits.py \
	engine/test_memory_growth.py engine/test_output_folder.py engine/predictor/test_predictor.py engine/test_signals.py \
	engine/test_trainer.py evaluation/keypoints/test_clothes.py evaluation/kitti evaluation/test_coco.py \
	evaluation/test_truth.py evaluation/test_wider_face.py evaluation/tracking export/test_lsnet.py export/test_tasks.py \
	layers/test_deform_conv.py model_zoo report/test_report.py tracking \
	modeling/heads/test_grid_points.py modeling/lsnet/test_lsnet_round_trip.py modeling/meta_arch/test_meta_arch.py \
	modeling/test_ancestor_defects.py ops/lsnet ops/test_box_losses.py ops/test_focal_loss.py runtime/test_onnx_model.py \
	test_imports.py test_properties.py

.PHONY: setup demo test test-slow test-reliability lint

setup:
	@$(PYTHON) tools/setup_env.py

lint: setup
	$(BIN)/ruff check .
	$(BIN)/mypy

test: lint
	$(BIN)/pytest -n $(WORKERS) -m "not slow"

test-slow: setup
	$(BIN)/pytest -m slow

test-reliability: setup
	$(BIN)/pytest -n $(WORKERS) --hypothesis-profile=long $(addprefix tests/,$(RELIABILITY))
	$(BIN)/python tools/mutate.py --sample 60 --min-noticed 85

demo: setup
	$(BIN)/python -m centernet_d2 predict --model centerface --output $(DEMO)/faces "$$($(BIN)/python -c "$(FACE)")" \
		|| echo "CenterFace is left out: its weights cannot be downloaded now"
	$(BIN)/python tools/train_net.py --config-file configs/Synthetic/shapes_1pt.yaml OUTPUT_DIR $(DEMO) $(SHORT)
	$(BIN)/python tools/demo.py --config-file configs/Synthetic/shapes_1pt.yaml --weights $(DEMO)/model_final.pth \
		--input synthetic_shapes_val --num-images 24 --output $(DEMO)/images
	$(BIN)/python -c "$(PHOTO)"
	@echo "Images with predictions: $(DEMO)/faces and $(DEMO)/images; curves, AP and errors: $(DEMO)/report.html"
