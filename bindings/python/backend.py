"""A PEP 517 build backend for this one package, of the standard library alone, so that no build needs a network.

A libgptoss shared library goes into the wheel where it lies in the package folder, or where

    pip wheel --config-settings=library=$PWD/build/libgptoss.so ./bindings/python

names it: without its debug information. The wheel's name then has its platform.
"""

import base64
import csv
import hashlib
import io
import os
import re
import shutil
import struct
import subprocess
import sysconfig
import tarfile
import tempfile
import zipfile

HERE = os.path.dirname(os.path.abspath(__file__))
PACKAGE = "gptoss"


def _project():
    with open(os.path.join(HERE, "pyproject.toml"), encoding="utf-8") as file:
        return dict(re.findall(r'^([\w-]+) = "(.*)"$', file.read(), re.MULTILINE))


def _metadata(project):
    return (
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
        f"Summary: {project['description']}\nRequires-Python: {project['requires-python']}\nLicense: Apache-2.0\n"
    )


def _files():
    names = sorted(os.listdir(os.path.join(HERE, PACKAGE)))
    return [f"{PACKAGE}/{name}" for name in names if re.search(r"\.(py|typed|dylib|dll)$|\.so(\.|$)", name)]


def _is_library(name):
    return not name.endswith((".py", ".typed", ".pth"))


def _stripped(data):
    """A library without its debug information, which is most of it, where there is a strip that can tell."""
    strip = shutil.which("strip")
    if not strip or not data.startswith(b"\x7fELF"):
        return data
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "library")
        with open(path, "wb") as file:
            file.write(data)
        if subprocess.run([strip, "--strip-unneeded", path], stderr=subprocess.DEVNULL).returncode:
            return data  # made for a machine that this strip does not know
        with open(path, "rb") as file:
            return file.read()


def _platform(data):
    """That which a library was made for, which need not be the one that makes the wheel."""
    if data.startswith(b"\x7fELF"):
        (machine,) = struct.unpack_from("<H", data, 18)
        return "linux_" + {62: "x86_64", 183: "aarch64"}.get(machine, os.uname().machine)
    if data.startswith(b"MZ"):
        (offset,) = struct.unpack_from("<I", data, 60)
        return "win_arm64" if struct.unpack_from("<H", data, offset + 4)[0] == 0xAA64 else "win_amd64"
    return re.sub(r"\W", "_", sysconfig.get_platform())


def _library_name(data):
    return "gptoss.dll" if data.startswith(b"MZ") else "libgptoss.so" if data.startswith(b"\x7fELF") else "libgptoss.dylib"


def _write_wheel(folder, contents):
    project = _project()
    libraries = [data for name, data in contents.items() if _is_library(name)]
    binary = bool(libraries)
    platform = _platform(libraries[0]) if binary else "any"
    info = f"{project['name']}-{project['version']}.dist-info"
    contents = {
        **contents,
        f"{info}/METADATA": _metadata(project).encode(),
        f"{info}/WHEEL": (
            f"Wheel-Version: 1.0\nGenerator: {project['name']}\n"
            f"Root-Is-Purelib: {str(not binary).lower()}\nTag: py3-none-{platform}\n"
        ).encode(),
    }
    record = io.StringIO()
    rows = csv.writer(record, lineterminator="\n")
    for name, data in contents.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        rows.writerow([name, f"sha256={digest}", len(data)])
    rows.writerow([f"{info}/RECORD", "", ""])
    contents[f"{info}/RECORD"] = record.getvalue().encode()

    wheel = f"{project['name']}-{project['version']}-py3-none-{platform}.whl"
    with zipfile.ZipFile(os.path.join(folder, wheel), "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in contents.items():
            archive.writestr(name, data)
    return wheel


def _read(name):
    with open(os.path.join(HERE, name), "rb") as file:
        return file.read()


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    contents = {name: _read(name) for name in _files()}
    named = (config_settings or {}).get("library")
    if named:
        library = _read(named)
        contents = {name: data for name, data in contents.items() if not _is_library(name)}
        contents[f"{PACKAGE}/{_library_name(library)}"] = library
    return _write_wheel(
        wheel_directory, {name: _stripped(data) if _is_library(name) else data for name, data in contents.items()}
    )


def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    return _write_wheel(wheel_directory, {f"{PACKAGE}.pth": f"{HERE}\n".encode()})


def build_sdist(sdist_directory, config_settings=None):
    project = _project()
    base = f"{project['name']}-{project['version']}"
    with tarfile.open(os.path.join(sdist_directory, f"{base}.tar.gz"), "w:gz", format=tarfile.PAX_FORMAT) as archive:
        for name in ["pyproject.toml", "backend.py", *_files()]:
            archive.add(os.path.join(HERE, name), f"{base}/{name}")
        data = _metadata(project).encode()
        entry = tarfile.TarInfo(f"{base}/PKG-INFO")
        entry.size = len(data)
        archive.addfile(entry, io.BytesIO(data))
    return f"{base}.tar.gz"
