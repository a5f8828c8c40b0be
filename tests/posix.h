/* What tests use of POSIX, with what stands for it where tests run on Windows. */
#ifndef GPTOSS_TESTS_POSIX_H
#define GPTOSS_TESTS_POSIX_H

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* The variable that names the folder of caches. */
#ifdef _WIN32
#define CACHE_VARIABLE "LOCALAPPDATA"
#else
#define CACHE_VARIABLE "XDG_CACHE_HOME"
#endif

#ifdef _WIN32

#include <direct.h>
#include <io.h>
#include <process.h>

static inline int setenv(const char* name, const char* value, int overwrite) {
    (void)overwrite;
    return _putenv_s(name, value);
}
static inline char* mkdtemp(char* path) { return _mktemp(path) && _mkdir(path) == 0 ? path : NULL; }
static inline int make_directory(const char* path) { return _mkdir(path); }
static inline const char* temporary_folder(void) { return getenv("TEMP"); }

/* Removes a directory with all in it; returns 0. */
static inline int remove_directory(const char* path) {
    char command[1000];
    snprintf(command, sizeof command, "rd /s /q \"%s\"", path);
    return system(command);
}

#else

static inline int make_directory(const char* path) { return mkdir(path, 0700); }
static inline const char* temporary_folder(void) { return "/tmp"; }
static inline int remove_directory(const char* path) {
    char command[1000];
    snprintf(command, sizeof command, "rm -r '%s'", path);
    return system(command);
}

#endif

#endif
