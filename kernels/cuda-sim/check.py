#!/usr/bin/env python3
"""Checks the CUDA kernels on a machine without a GPU.

    check.py ptx [--write]   compiles every kernel.cu with NVRTC, compares with the committed kernel.ptx (or writes it),
                             and assembles that with ptxas: no spills, no warnings, and the registers of registers.txt
    check.py sim             looks whether the stand-in sees the faults of faults.cpp; compiles the kernels with g++ for
                             it and runs the Rust tests' cases under AddressSanitizer and UndefinedBehaviorSanitizer,
                             those of kernels with shared memory under ThreadSanitizer; then leaves out each barrier in
                             turn, which must make them fail
    check.py                 both

"ptx" needs pip, and installs three pinned wheels under target/. "sim" needs g++ with the sanitizers' libraries, and cargo.
"""

import argparse
import ctypes
import json
import os
import platform
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

SIM = Path(__file__).resolve().parent
CRATE = SIM.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", CRATE.parent / "target")).resolve() / "cuda-check"
SOURCES = sorted(CRATE.glob("src/*/kernel.cu"))

# NVRTC 12.4 writes PTX 8.4, which drivers from CUDA 12.4 on read; see DRIVER in src/cuda.rs.
WHEELS = [
    "nvidia-cuda-nvrtc-cu12==12.4.127",
    "nvidia-cuda-nvcc-cu12==12.4.131",
    "nvidia-cuda-runtime-cu12==12.4.127",
]
ARCHITECTURE = "compute_80"
ASSEMBLED_FOR = ["sm_80", "sm_90"]

# What compilers print, whatever the locale.
TEXT = {"encoding": "utf-8", "errors": "replace"}


class Failed(Exception):
    pass


# ---- PTX -------------------------------------------------------------------------------------------------------------


def wheels():
    """The folder the wheels are unpacked in, installed if they are not."""
    folder = TARGET / "wheels"
    stamp = folder / "installed"
    if not stamp.exists() or stamp.read_text() != "\n".join(WHEELS):
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
        environment = os.environ | {"PIP_ROOT_USER_ACTION": "ignore"}
        subprocess.run([*pip, "--upgrade", "--target", folder, *WHEELS], check=True, env=environment)
        stamp.write_text("\n".join(WHEELS))
    return folder / "nvidia"


class Nvrtc:
    def __init__(self, nvidia):
        self.library = ctypes.CDLL(nvidia / "cuda_nvrtc/lib/libnvrtc.so.12", mode=ctypes.RTLD_GLOBAL)
        self.library.nvrtcGetErrorString.restype = ctypes.c_char_p
        self.options = [f"--gpu-architecture={ARCHITECTURE}", "--std=c++17"]
        self.options += [f"--include-path={nvidia / 'cuda_runtime/include'}", f"--include-path={CRATE / 'src'}"]

    def call(self, name, *arguments):
        error = getattr(self.library, name)(*arguments)
        if error:
            raise Failed(f"{name}: {self.library.nvrtcGetErrorString(error).decode()}")

    def text(self, program, what):
        """What nvrtcGet<what> gives."""
        size = ctypes.c_size_t()
        self.call(f"nvrtcGet{what}Size", program, ctypes.byref(size))
        text = ctypes.create_string_buffer(size.value)
        self.call(f"nvrtcGet{what}", program, text)
        return text.value.decode()

    def compile(self, source):
        program = ctypes.c_void_p()
        text = source.read_bytes()
        self.call("nvrtcCreateProgram", ctypes.byref(program), text, source.name.encode(), 0, None, None)
        options = (ctypes.c_char_p * len(self.options))(*[o.encode() for o in self.options])
        error = self.library.nvrtcCompileProgram(program, len(options), options)
        log = self.text(program, "ProgramLog").strip()
        if error or log:
            raise Failed(f"{source}:\n{log}")
        return self.text(program, "PTX")


def registers(output):
    """(kernel, registers, shared bytes) of every kernel in what ptxas -v prints."""
    name = None
    for line in output.splitlines():
        if found := re.search(r"Compiling entry function '(\w+)'", line):
            name = found[1]
        if found := re.search(r"Used (\d+) registers", line):
            shared = re.search(r"(\d+) bytes smem", line)
            yield name, int(found[1]), int(shared[1]) if shared else 0


def committed(file, text, write):
    """Compares a file that is made from others with what it should be, or writes it."""
    if write:
        file.write_text(text, encoding="utf-8", newline="\n")
    elif not file.exists() or file.read_text(encoding="utf-8") != text:
        raise Failed(f"{file.relative_to(CRATE.parent)} is not what kernel.cu makes: run check.py ptx --write")


def check_ptx(write):
    nvidia = wheels()
    nvrtc = Nvrtc(nvidia)
    for source in SOURCES:
        ptx = nvrtc.compile(source)
        if str(CRATE) in ptx or str(TARGET) in ptx or "\t.loc\t" in ptx:
            raise Failed(f"the PTX of {source} would name files of this machine")
        committed(source.with_suffix(".ptx"), ptx, write)
        table = {}
        for arch in ASSEMBLED_FOR:
            command = [nvidia / "cuda_nvcc/bin/ptxas", f"-arch={arch}", "-v", "--warn-on-spills", "-Werror"]
            command += [source.with_suffix(".ptx"), "-o", TARGET / "kernel.cubin"]
            done = subprocess.run(command, capture_output=True, **TEXT)
            if done.returncode:
                raise Failed(f"{source} for {arch}:\n{done.stderr}")
            for kernel, used, shared in registers(done.stdout + done.stderr):
                table.setdefault((kernel, shared), {})[arch] = used
        lines = [f"{'kernel':40} {'shared':>8} " + " ".join(f"{a + ' regs':>12}" for a in ASSEMBLED_FOR)]
        for (kernel, shared), used in sorted(table.items()):
            lines.append(f"{kernel:40} {shared:8} " + " ".join(f"{used[a]:12}" for a in ASSEMBLED_FOR))
        committed(source.with_name("registers.txt"), "\n".join(lines) + "\n", write)
        print(*lines[0 if source == SOURCES[0] else 1:], sep="\n")


# ---- the stand-in ------------------------------------------------------------------------------------------------------

COMPILE = ["-std=c++17", "-O1", "-g1", "-fPIC", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas"]
COMPILE += [f"-I{SIM}", f"-I{SIM / 'include'}", f"-I{CRATE / 'src'}"]
# For each build: flags of what is compiled and linked, flags of the runtime, a library that must be loaded first.
ADDRESS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"]
BUILDS = {
    "plain": ([], [], None),
    "ucontext": ([], ["-DENGRAFT_SIM_UCONTEXT"], None),
    "address": ([*ADDRESS, "-DENGRAFT_SIM_PLAIN_SHARED"], ADDRESS, "libasan.so"),
    "thread": (["-fsanitize=thread"], ["-DENGRAFT_SIM_TSAN"], "libtsan.so"),
}
# fibers are slow under ThreadSanitizer
THREAD_FLOPS = "2e5"


def output(command, environment=None):
    """What a command prints, and how it ended: a code, or a signal's name."""
    # leaks: a fiber's stack is never given back; Rust is not compiled for ThreadSanitizer
    options = {"ASAN_OPTIONS": "detect_leaks=0", "TSAN_OPTIONS": "halt_on_error=1 ignore_noninstrumented_modules=1"}
    # ThreadSanitizer cannot start where addresses are randomised too widely, which setarch turns off
    command = ["setarch", platform.machine(), "-R", *command]
    environment = os.environ | options | (environment or {})
    done = subprocess.run(command, capture_output=True, **TEXT, env=environment, timeout=600)
    code = done.returncode
    return done.stdout + done.stderr, signal.Signals(-code).name if code < 0 else code


class Sim:
    """The stand-in with a sanitizer, with the kernels or with those of faults.cpp."""

    def __init__(self, build):
        self.name = build
        self.flags, self.runtime_flags, self.preload = BUILDS[build]
        self.folder = TARGET / build
        self.folder.mkdir(parents=True, exist_ok=True)
        self.runtime = self.compile([SIM / "runtime.cpp", SIM / "driver.cpp"])

    def compile(self, sources):
        """The objects of the sources, two at a time."""

        def one(source):
            flags = self.runtime_flags if source.stem == "runtime" else self.flags
            kernel = ["-xc++", "-include", "cuda_sim.h"] if source.stem in ("kernel", "faults") else []
            made = self.folder / f"{source.parent.name}-{source.stem}.o"
            command = ["g++", *COMPILE, *flags, *kernel, "-c", source, "-o", made]
            done = subprocess.run(command, stderr=subprocess.PIPE, **TEXT)
            if done.returncode:
                raise Failed(f"{source}:\n{done.stderr}")
            return made

        with ThreadPoolExecutor(2) as pool:
            return list(pool.map(one, sources))

    def link(self, objects, name, *flags):
        made = self.folder / name
        flags = [*flags, *(f for f in self.flags if f.startswith("-fsanitize"))]
        subprocess.run(["g++", *flags, *objects, *self.runtime, "-o", made], check=True)
        return made

    def check_faults(self):
        """Every fault that this build sees is seen."""
        program = self.link(self.compile([SIM / "faults.cpp"]), "faults")
        seen = 0
        for line in output([program])[0].splitlines():
            fault, builds, words = line.split("\t")
            if {"ucontext": "p"}.get(self.name, self.name[0]) in builds:
                said, ended = output([program, fault])
                if words != ended and words not in said:
                    raise Failed(f"the fault {fault} under {self.name}: expected {words!r}, got {ended} and\n{said}")
                seen += 1
        print(f"{self.name:10} {seen} faults are seen")

    def with_kernels(self):
        """Variables that make the Rust tests use this build."""
        library = self.link(self.compile(SOURCES), "libcuda.so", "-shared", "-Wl,-soname,libcuda.so")
        environment = {"ENGRAFT_CUDA_SIM_LIBRARY": str(library)}
        if self.preload:
            found = subprocess.run(["g++", f"-print-file-name={self.preload}"], capture_output=True, check=True, **TEXT)
            environment["LD_PRELOAD"] = str(Path(found.stdout.strip()).resolve())
        return environment


def rust_tests():
    """The program of tests/cuda, built as for the other tests of the stand-in."""
    command = ["cargo", "test", "-p", "engraft-kernels", "--features", "cuda-sim", "--test", "cuda", "--locked"]
    command += ["--no-run", "--message-format=json"]
    done = subprocess.run(command, cwd=CRATE, stdout=subprocess.PIPE, check=True, **TEXT)
    built = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return [b["executable"] for b in built if b.get("executable")][-1]


def check_cases(tests, environment, what):
    said, ended = output([tests, "every_case_matches_its_reference", "--exact", "--nocapture"], environment)
    if ended != 0:
        raise Failed(f"{what}:\n{said}")
    print(f"{what:10} {said[said.rindex('cuda: ') + 6:].splitlines()[0]}")


def barriers():
    """(file, line, kernels) of every barrier, and whose cases reach it."""
    shared = [s for s in SOURCES if ".shared" in s.with_suffix(".ptx").read_text()]
    for source in [*shared, *sorted(CRATE.glob("src/**/*.cuh"))]:
        kernels = [source.parent.name] if source in shared else [s.parent.name for s in shared]
        for number, line in enumerate(source.read_text(encoding="utf-8").splitlines(), 1):
            if "__syncthreads()" in line:
                yield source.relative_to(CRATE / "src"), number, kernels


# The tests that go over the cases of a kernel.
OF_CASES = ["every_case_matches_its_reference", "tensor_cores::every_product_is_close_to_its_reference"]
# What a run without a barrier says, and what that is.
SIGNS = {"data race": "a data race", "DEADLYSIGNAL": "a bad address", "its_reference ... FAILED": "wrong"}


def check_barriers(tests, environment):
    """A test that passes without a barrier does not test it."""
    for source, number, kernels in barriers():
        where = f"{source}:{number}"
        for kernel in kernels:
            chosen = {"ENGRAFT_CUDA_CASES": kernel, "ENGRAFT_CUDA_SIM_WITHOUT_BARRIER": f"/src/{where}"}
            said, ended = output([tests, *OF_CASES, "--exact"], environment | chosen)
            seen = next((name for sign, name in SIGNS.items() if sign in said), None)
            if ended != 0 and seen:
                print(f"{'thread':10} without the barrier at {where}: {seen}")
                break
        else:
            raise Failed(f"without the barrier at {where} nothing is wrong in the cases of {', '.join(kernels)}")


def check_sim():
    for build in BUILDS:
        Sim(build).check_faults()
    tests = rust_tests()
    check_cases(tests, Sim("address").with_kernels(), "address")
    shared = {kernel for _, _, kernels in barriers() for kernel in kernels}
    thread = Sim("thread").with_kernels() | {"ENGRAFT_CUDA_FLOPS": THREAD_FLOPS}
    check_cases(tests, thread | {"ENGRAFT_CUDA_CASES": ",".join(sorted(shared))}, "thread")
    check_barriers(tests, thread)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=["ptx", "sim", "all"], default="all")
    parser.add_argument("--write", action="store_true", help="write kernel.ptx and registers.txt rather than compare")
    arguments = parser.parse_args()
    TARGET.mkdir(parents=True, exist_ok=True)
    checks = {"ptx": lambda: check_ptx(arguments.write), "sim": check_sim}
    for name, check in checks.items():
        if arguments.what in (name, "all"):
            start = time.monotonic()
            try:
                check()
            except Failed as why:
                sys.exit(f"{name}: {why}")
            print(f"{name}: good ({time.monotonic() - start:.1f} s)")


if __name__ == "__main__":
    main()
