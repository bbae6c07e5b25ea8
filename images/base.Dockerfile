# The base image where a registry answers: Python and the third-party packages.
ARG PYTHON
FROM ${PYTHON}
# For the tracer. Where Debian's mirror is out of reach the labs run all the same, but for what needs system calls.
RUN (apt-get update && apt-get install -y --no-install-recommends strace; rm -rf /var/lib/apt/lists/*); true
COPY requirements.txt /tmp/requirements.txt
RUN python3 -m pip install --no-cache-dir --no-deps -r /tmp/requirements.txt
# The official image comes without compiled modules, and a read-only root can never keep any.
# Some files of the standard library's own tests do not compile on purpose, hence `-x` and the semicolon.
RUN python3 -m compileall -q -j 0 -x 'test|lib2to3' "$(python3 -c 'import os; print(os.path.dirname(os.__file__))')"; true
