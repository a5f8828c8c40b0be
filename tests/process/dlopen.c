/*
 * test_dlopen LIBRARY MODEL [CYCLES]: a host that opens the library, generates, and closes it again, many times:
 * nothing grows, and after the last release no thread is left. The last line is "N passed, N failed", of the three.
 */
#include <dirent.h>
#include <dlfcn.h>
#include <gptoss.h>
#include <limits.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int threads(void) {
    int n = 0;
    DIR* directory = opendir("/proc/self/task");
    if (!directory) return -1;
    for (const struct dirent* entry; (entry = readdir(directory));) n += entry->d_name[0] != '.';
    closedir(directory);
    return n;
}

static long allocated_kilobytes(void) {
    const struct mallinfo2 heap = mallinfo2();
    return (long)((heap.uordblks + heap.hblkhd) / 1024);
}

static long resident_kilobytes(void) {
    long all = 0, resident = 0;
    malloc_trim(0); /* what is free between two blocks is not what grows */
    FILE* file = fopen("/proc/self/statm", "r");
    if (!file || fscanf(file, "%ld %ld", &all, &resident) != 2) exit(1);
    fclose(file);
    return resident * (sysconf(_SC_PAGESIZE) / 1024);
}

static int once(const char* path, const char* model_path) {
    void* library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        printf("%s\n", dlerror());
        return 0;
    }
#define FIND(name)                   \
    __typeof__(gptoss_##name)* name; \
    *(void**)&name = dlsym(library, "gptoss_" #name)
    FIND(model_create);
    FIND(context_create);
    FIND(context_append_tokens);
    FIND(context_sample);
    FIND(context_release);
    FIND(model_release);
    FIND(last_error);
    struct gptoss_model_options options;
    memset(&options, 0, sizeof options);
    options.struct_size = sizeof options;
    options.device = getenv("GPTOSS_TEST_DEVICE");
    gptoss_model_t model = NULL;
    gptoss_context_t context = NULL;
    uint32_t tokens[4] = {1, 2, 3, 4};
    size_t n = 0;
    const int ok = !model_create(model_path, &options, &model) && !context_create(model, 32, 0, &context) &&
                   !context_append_tokens(context, 4, tokens) && !context_sample(context, 0, 0, 4, tokens, &n) &&
                   n == 4;
    if (!ok) printf("%s\n", last_error());
    context_release(context);
    model_release(model);
    return dlclose(library) == 0 && ok;
}

int main(int argc, char** argv) {
    const int cycles = argc > 3 ? atoi(argv[3]) : 60;
    /* The least of each third: worker threads and the kernel give memory back when they get to it. */
    long allocated[3] = {LONG_MAX, LONG_MAX, LONG_MAX}, resident[3] = {LONG_MAX, LONG_MAX, LONG_MAX};
    if (argc < 3) return 2;
    const int at_start = threads();
    for (int i = 0; i < cycles; i++) {
        if (!once(argv[1], argv[2])) return 1;
        const int third = i * 3 / cycles;
        const long in_blocks = allocated_kilobytes(), in_pages = resident_kilobytes();
        if (in_blocks < allocated[third]) allocated[third] = in_blocks;
        if (in_pages < resident[third]) resident[third] = in_pages;
    }
    const long more_allocated = allocated[2] - allocated[1], more_resident = resident[2] - resident[1];
    const int left = threads() - at_start;
    printf(
        "%d cycles: from the second third to the last %ld kB more allocated, %ld kB more resident; %d threads left\n",
        cycles, more_allocated, more_resident, left);
    const int failed = (more_allocated > 16) + (more_resident > 4096) + (left != 0);
    printf("%d passed, %d failed\n", 3 - failed, failed);
    return failed != 0;
}
