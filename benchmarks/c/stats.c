#include <time.h>

#include "loadgen.h"

/* The clock of Python's time.monotonic_ns(), so that instants can be compared with a server's. */
uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static uint64_t cpu_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static int bucket_of(uint64_t value)
{
    if (value < 64)
        return (int)value;
    int shift = 63 - __builtin_clzll(value) - 6;
    int bucket = (shift + 1) * 64 + (int)(value >> shift) - 64;
    return bucket < HISTOGRAM_SIZE ? bucket : HISTOGRAM_SIZE - 1;
}

static uint64_t middle_of(int bucket)
{
    if (bucket < 64)
        return (uint64_t)bucket;
    int shift = bucket / 64 - 1;
    return ((uint64_t)(bucket % 64 + 64) << shift) + ((1ull << shift) >> 1);
}

void record(struct histogram *histogram, uint64_t value, uint64_t times)
{
    histogram->count += times;
    histogram->buckets[bucket_of(value)] += times;
}

double percentile_us(const struct histogram *histogram, double percent)
{
    uint64_t wanted = (uint64_t)((double)histogram->count * percent / 100.0);
    uint64_t seen = 0;
    for (int bucket = 0; bucket < HISTOGRAM_SIZE; bucket++) {
        seen += histogram->buckets[bucket];
        if (seen > wanted)
            return (double)middle_of(bucket) / 1000.0;
    }
    return 0.0;
}

struct stopwatch stopwatch_start(void)
{
    return (struct stopwatch){.wall = now_ns(), .cpu = cpu_ns()};
}

double stopwatch_seconds(const struct stopwatch *since)
{
    return (double)(now_ns() - since->wall) / 1e9;
}

/* CPU seconds of this process per second of time: 1.0 is a whole core. */
double stopwatch_share(const struct stopwatch *since)
{
    return (double)(cpu_ns() - since->cpu) / (double)(now_ns() - since->wall);
}
