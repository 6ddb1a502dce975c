#!/usr/bin/env python3
"""Checks the CUDA kernels on a machine without a GPU.

    check.py ptx [--write]   compiles every kernel.cu with NVRTC, compares with the committed kernel.ptx (or writes it),
                             and assembles that with ptxas: no spills, no warnings
    check.py sim             compiles the kernels with g++ for cuda-sim and runs test.cpp under AddressSanitizer,
                             UndefinedBehaviorSanitizer and ThreadSanitizer; then removes each barrier in turn, which
                             must make it fail
    check.py                 both

"ptx" needs pip, and installs three pinned wheels under target/. "sim" needs g++ with the sanitizers' libraries.
"""

import argparse
import ctypes
import os
import platform
import re
import subprocess
import sys
import time
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
        self.options += [f"--include-path={nvidia / 'cuda_runtime/include'}"]

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


def check_ptx(write):
    nvidia = wheels()
    nvrtc = Nvrtc(nvidia)
    table = {}
    for source in SOURCES:
        committed = source.with_suffix(".ptx")
        shown = committed.relative_to(CRATE.parent)
        ptx = nvrtc.compile(source)
        if str(CRATE) in ptx or str(TARGET) in ptx or "\t.loc\t" in ptx:
            raise Failed(f"{shown} would name files of this machine")
        if write:
            committed.write_text(ptx, encoding="utf-8", newline="\n")
        elif not committed.exists() or committed.read_text(encoding="utf-8") != ptx:
            raise Failed(f"{shown} is not what {source.name} compiles to: run check.py ptx --write")
        for arch in ASSEMBLED_FOR:
            command = [nvidia / "cuda_nvcc/bin/ptxas", f"-arch={arch}", "-v", "--warn-on-spills", "-Werror"]
            command += [committed, "-o", TARGET / "kernel.cubin"]
            done = subprocess.run(command, capture_output=True, **TEXT)
            if done.returncode:
                raise Failed(f"{shown} for {arch}:\n{done.stderr}")
            for kernel, used, shared in registers(done.stdout + done.stderr):
                table.setdefault((kernel, shared), {})[arch] = used
    print(f"{'kernel':36} {'shared':>8}", *[f"{a + ' regs':>12}" for a in ASSEMBLED_FOR])
    for (kernel, shared), used in table.items():
        print(f"{kernel:36} {shared:8}", *[f"{used[a]:12}" for a in ASSEMBLED_FOR])


# ---- the simulation ----------------------------------------------------------------------------------------------------

COMPILE = ["-std=c++17", "-O1", "-g1", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas"]
COMPILE += [f"-I{SIM / 'include'}"]
# For each build: flags of the kernels and of the test, flags of the runtime, flags of the linker.
ADDRESS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"]
THREAD = ["-fsanitize=thread"]
BUILDS = {
    "plain": ([], [], []),
    "ucontext": ([], ["-DENGRAFT_SIM_UCONTEXT"], []),
    "address": ([*ADDRESS, "-DENGRAFT_SIM_PLAIN_SHARED"], ADDRESS, ADDRESS),
    "thread": (THREAD, ["-DENGRAFT_SIM_TSAN"], THREAD),
}


class Sim:
    """A build of test.cpp; its objects are compiled at the same time."""

    def __init__(self, build):
        self.name = build
        self.flags, self.runtime_flags, self.link_flags = BUILDS[build]
        self.folder = TARGET / build
        self.folder.mkdir(parents=True, exist_ok=True)
        self.objects = {}
        units = [SIM / "test.cpp", SIM / "runtime.cpp", *sorted(SIM.glob("kernels/*.cpp"))]
        started = [self.start(unit) for unit in units]
        for unit, object, compiler in started:
            self.objects[unit.stem] = self.finish(unit, object, compiler)

    def start(self, unit, suffix="", extra=()):
        flags = self.runtime_flags if unit.stem == "runtime" else self.flags
        object = self.folder / f"{unit.stem}{suffix}.o"
        command = ["g++", *COMPILE, *flags, *extra, "-c", unit, "-o", object]
        return unit, object, subprocess.Popen(command, stderr=subprocess.PIPE, **TEXT)

    def finish(self, unit, object, compiler):
        _, log = compiler.communicate()
        if compiler.returncode:
            raise Failed(f"{unit}:\n{log}")
        return object

    def link(self, objects, suffix=""):
        program = self.folder / f"test{suffix}"
        subprocess.run(["g++", *self.link_flags, *objects.values(), "-o", program], check=True)
        return program

    def run(self, program):
        # leaks: a fiber's stack is never given back. ThreadSanitizer cannot start where addresses are randomised too
        # widely, which setarch turns off.
        environment = os.environ | {"ASAN_OPTIONS": "detect_leaks=0", "TSAN_OPTIONS": "halt_on_error=1"}
        commands = [[program]]
        if self.name == "thread":
            commands.append(["setarch", platform.machine(), "-R", program])
        for command in commands:
            done = subprocess.run(command, capture_output=True, **TEXT, env=environment, timeout=300)
            if "unexpected memory mapping" not in done.stderr:
                break
        return done

    def check(self):
        done = self.run(self.link(self.objects))
        if done.returncode:
            raise Failed(f"under {self.name}:\n{done.stdout}{done.stderr}")
        print(f"{self.name:10} {done.stdout.strip()}")

    def check_barriers(self):
        """A test that passes without a barrier does not test it."""
        for source in SOURCES:
            unit = SIM / "kernels" / f"{source.parent.name}.cpp"
            for number, line in enumerate(source.read_text(encoding="utf-8").splitlines(), 1):
                if "__syncthreads()" not in line:
                    continue
                extra = [f"-DENGRAFT_SIM_WITHOUT_BARRIER={number}"]
                _, object, compiler = started = self.start(unit, f"-{number}", extra)
                objects = self.objects | {unit.stem: self.finish(*started)}
                done = self.run(self.link(objects, f"-{unit.stem}-{number}"))
                where = f"{source.parent.name}/{source.name}:{number}"
                race = "data race" in done.stderr
                if not race and "comparisons failed" not in done.stdout:
                    raise Failed(f"under {self.name}, without the barrier at {where}: not seen\n{done.stderr}")
                print(f"{self.name:10} without the barrier at {where}: {'a data race' if race else 'wrong results'}")


def check_sim():
    for build in BUILDS:
        sim = Sim(build)
        sim.check()
        if build == "thread":
            sim.check_barriers()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=["ptx", "sim", "all"], default="all")
    parser.add_argument("--write", action="store_true", help="write kernel.ptx rather than compare")
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
