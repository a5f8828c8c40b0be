/* Version, status names, devices, and machines without any. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"

/* The library opens the Vulkan loader by name at run time; here it finds none when a test wants that. */
__attribute__((visibility("default"))) void* dlopen(const char* file, int flags) {
    void* (*real)(const char*, int);
    *(void**)&real = dlsym(RTLD_NEXT, "dlopen");
    if (file && strstr(file, "libvulkan.so") && getenv("GPTOSS_TEST_NO_LOADER")) return NULL;
    return real(file, flags);
}

TEST(version_is_the_header_s) {
    CHECK(gptoss_version() == GPTOSS_VERSION_MAJOR * 10000 + GPTOSS_VERSION_MINOR * 100 + GPTOSS_VERSION_PATCH);
}

TEST(every_status_has_a_name) {
    for (int i = 0; i <= gptoss_status_internal_error; i++) {
        CHECK(strlen(gptoss_status_string((enum gptoss_status)i)) > 3);
        CHECK(strcmp(gptoss_status_string((enum gptoss_status)i), gptoss_status_string((enum gptoss_status)(i + 1))) !=
              0);
    }
    CHECK(strcmp(gptoss_status_string((enum gptoss_status) - 5), "unknown status") == 0);
    CHECK(strcmp(gptoss_status_string((enum gptoss_status)12), "unknown status") == 0);
    CHECK(strcmp(gptoss_status_string((enum gptoss_status)2000000000), "unknown status") == 0);
}

TEST(devices_describe_themselves) {
    uint32_t count = 77;
    CHECK_OK(gptoss_device_count(&count));
    CHECK(count >= 1 && count < 77);
    for (uint32_t i = 0; i < count; i++) {
        struct gptoss_device_info info;
        memset(&info, 0, sizeof info);
        info.struct_size = sizeof info;
        CHECK_OK(gptoss_device_get_info(i, &info));
        CHECK(strlen(info.name) > 0 && strlen(info.name) < sizeof info.name);
        CHECK(strlen(info.driver) > 0 || !info.supported);
        CHECK(info.struct_size == sizeof info);
        if (!info.supported) continue;
        CHECK(info.memory_size > 0 && info.memory_available > 0 && info.memory_available <= info.memory_size);
        CHECK(info.subgroup_size > 0 && info.max_allocation_size > 0);
        CHECK(info.tier == gptoss_kernel_tier_exact || info.tier == gptoss_kernel_tier_coopmat);
    }
    CHECK_FAILS(gptoss_status_invalid_argument, "count_out", gptoss_device_count(NULL));
    CHECK_FAILS(gptoss_status_invalid_argument, "info_out", gptoss_device_get_info(0, NULL));
}

TEST(a_device_that_is_not_there) {
    struct gptoss_device_info info;
    memset(&info, 'x', sizeof info);
    info.struct_size = sizeof info;
    CHECK_FAILS(gptoss_status_invalid_argument, "4000000000", gptoss_device_get_info(4000000000u, &info));
    CHECK(info.name[0] == 0 && info.memory_size == 0);

    const char* const names[] = {"no such device", "99", "-1", "4294967296", "0x0", "18446744073709551616"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct gptoss_model_options options = model_options();
        gptoss_model_t model = (gptoss_model_t)&options;
        options.device = names[i];
        CHECK_FAILS(gptoss_status_invalid_argument, names[i], gptoss_model_create(golden("tiny"), &options, &model));
        CHECK(!model);
    }
}

TEST(an_older_caller_s_device_info_is_filled_as_far_as_it_goes) {
    struct gptoss_device_info info;
    memset(&info, 'x', sizeof info);
    info.struct_size = offsetof(struct gptoss_device_info, driver);
    CHECK_OK(gptoss_device_get_info(0, &info));
    CHECK(strlen(info.name) < sizeof info.name);
    CHECK(info.driver[0] == 'x' && info.driver[255] == 'x');
    CHECK(info.struct_size == offsetof(struct gptoss_device_info, driver));
    info.struct_size = 0;
    CHECK_FAILS(gptoss_status_invalid_argument, "struct_size", gptoss_device_get_info(0, &info));

    struct {
        struct gptoss_device_info info;
        char newer[64];
    } larger;
    memset(&larger, 'x', sizeof larger);
    larger.info.struct_size = sizeof larger;
    CHECK_OK(gptoss_device_get_info(0, &larger.info));
    CHECK(larger.info.memory_size > 0);
    CHECK(larger.newer[0] == 'x');
}

TEST(bandwidth_is_measured) {
    double rate = -1;
    CHECK_OK(gptoss_device_measure_bandwidth(0, &rate));
    CHECK(rate > 1e8 && rate < 1e14);
    CHECK_FAILS(gptoss_status_invalid_argument, "4000000000", gptoss_device_measure_bandwidth(4000000000u, &rate));
    CHECK(rate == 0);
    CHECK_FAILS(gptoss_status_invalid_argument, "bytes_per_second_out", gptoss_device_measure_bandwidth(0, NULL));
}

TEST(machines_without_vulkan) {
    run_alone("without_vulkan", "GPTOSS_TEST_NO_LOADER", "1");
    run_alone("without_vulkan", "VK_ICD_FILENAMES", "/nonexistent.json");
    run_alone("without_vulkan", "VK_DRIVER_FILES", "/nonexistent.json");
}

TEST_ALONE(without_vulkan) {
    struct gptoss_device_info info;
    memset(&info, 0, sizeof info);
    info.struct_size = sizeof info;
    for (int again = 0; again < 2; again++) {
        uint32_t count = 77;
        gptoss_model_t model = (gptoss_model_t)&info;
        CHECK_OK(gptoss_device_count(&count));
        CHECK(count == 0);
        CHECK_FAILS(gptoss_status_invalid_argument, "device 0", gptoss_device_get_info(0, &info));
        CHECK_FAILS(gptoss_status_unsupported_system, "Vulkan", gptoss_model_create_from_file(golden("tiny"), &model));
        CHECK(!model);
    }
    /* what needs no device works */
    gptoss_sampler_t sampler;
    CHECK_OK(gptoss_sampler_create(&sampler));
    CHECK_OK(gptoss_sampler_release(sampler));
    gptoss_tokenizer_t tokenizer;
    CHECK_OK(gptoss_tokenizer_create(NULL, &tokenizer));
    CHECK_OK(gptoss_tokenizer_release(tokenizer));
}
