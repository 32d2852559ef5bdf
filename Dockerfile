# docker build -t spc-ducisc .
# docker run --rm -v "$PWD/demo:/app/demo" spc-ducisc                                    # the demo, on the CPU
# docker run --rm spc-ducisc bash scripts/test.sh                                        # the tests
# docker run --rm --gpus all -v /data:/data -v "$PWD/runs:/app/runs" -e DATASET_HOME=/data spc-ducisc \
#     python train_Ours_MT.py --name ACDC --labelnum 5
FROM python:3.11-slim
WORKDIR /app
# PYTHON is the interpreter that scripts/environment.sh uses as it is.
ENV VIRTUAL_ENV=/opt/venv PATH=/opt/venv/bin:$PATH PYTHON=/opt/venv/bin/python
# torch.compile (--compile, --fast) builds its kernels with a C++ compiler.
RUN apt-get update && apt-get install -y --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*
RUN python -m venv "$VIRTUAL_ENV"
COPY requirements.txt ./
COPY tests/requirements.txt tests/
RUN pip install --no-cache-dir -r requirements.txt -r tests/requirements.txt
COPY . .
CMD ["bash", "scripts/demo.sh"]
