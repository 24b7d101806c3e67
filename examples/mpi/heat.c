/* Heat in a square plate whose upper edge is hot: Jacobi's iteration, with the rows divided among the ranks.
 *   mpicc -O2 heat.c -o heat && offerd mpi -n 4 -- ./heat [N] [STEPS]
 *
 * Each point becomes the mean of its four neighbours. Every rank does the same additions in the same order as a single rank
 * would, so the result is the same bit for bit, however many ranks there are; rank 0 prints a checksum of all of it.
 */

#include <mpi.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv)
{
    int rank, size, n = argc > 1 ? atoi(argv[1]) : 64, steps = argc > 2 ? atoi(argv[2]) : 200;

    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);

    /* Rows first to last - 1 are ours; one more above and below belongs to the neighbours, or is the plate's edge. */
    int first = (long)n * rank / size, last = (long)n * (rank + 1) / size, rows = last - first, width = n + 2;
    double *plate = calloc((size_t)(rows + 2) * width, sizeof *plate);
    double *next = calloc((size_t)(rows + 2) * width, sizeof *next);
    if (rank == 0)
        for (int x = 0; x < width; x++)
            plate[x] = next[x] = 100.0;
    int above = rank > 0 ? rank - 1 : MPI_PROC_NULL, below = rank < size - 1 ? rank + 1 : MPI_PROC_NULL;

    for (int step = 0; step < steps; step++) {
        MPI_Sendrecv(plate + width, width, MPI_DOUBLE, above, 0, plate + (size_t)(rows + 1) * width, width,
                     MPI_DOUBLE, below, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        MPI_Sendrecv(plate + (size_t)rows * width, width, MPI_DOUBLE, below, 1, plate, width, MPI_DOUBLE, above, 1,
                     MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        for (int y = 1; y <= rows; y++)
            for (int x = 1; x <= n; x++) {
                double *p = plate + (size_t)y * width + x;
                next[(size_t)y * width + x] = 0.25 * (p[-width] + p[width] + p[-1] + p[1]);
            }
        double *swap = plate;
        plate = next;
        next = swap;
    }

    /* Each point's bits are weighted by its place, so that points cannot be exchanged; integer sums do not depend on order. */
    uint64_t mine = 0, all = 0;
    double hottest = 0, highest = 0;
    for (int y = 1; y <= rows; y++)
        for (int x = 1; x <= n; x++) {
            uint64_t bits, place = (uint64_t)(first + y) * width + x;
            memcpy(&bits, plate + (size_t)y * width + x, sizeof bits);
            mine += (bits ^ (bits >> 29)) * (2 * place + 1) * UINT64_C(0x9E3779B97F4A7C15);
            if (plate[(size_t)y * width + x] > hottest)
                hottest = plate[(size_t)y * width + x];
        }
    MPI_Reduce(&mine, &all, 1, MPI_UINT64_T, MPI_SUM, 0, MPI_COMM_WORLD);
    MPI_Reduce(&hottest, &highest, 1, MPI_DOUBLE, MPI_MAX, 0, MPI_COMM_WORLD);
    if (rank == 0)
        printf("%dx%d, %d steps: checksum %016llx, hottest %.6f\n", n, n, steps, (unsigned long long)all, highest);
    MPI_Finalize();
    free(plate);
    free(next);
    return 0;
}
