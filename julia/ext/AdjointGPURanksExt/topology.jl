"""
Ranks in a Cartesian topology, each with the same number of cells and one layer around them. Where
the cells of a grid do not divide evenly, the last ranks' arrays reach beyond the grid.
"""
struct Cartesian{N} <: Topology
    grid::ImplicitGlobalGrid.GlobalGrid
    cells::NTuple{N,Int}
    coords::NTuple{N,Int}
end

"""
    cartesian(grid; dims=zeros)

Spread a grid over all ranks; `dims` are the numbers of ranks along (x, y, z), 0 where MPI may
choose.
"""
function AdjointGPU.cartesian(grid::Grid{N}; dims::NTuple{N,Int}=ntuple(_ -> 0, N)) where {N}
    count = MPI.Comm_size(MPI.COMM_WORLD)
    free = prod(d for d in dims if d > 0; init=1)
    (count % free == 0 && (0 in dims || free == count)) || throw(ArgumentError(
        "topology $(join(dims, " x ")) does not fit $count ranks"))
    dims = Tuple(Int.(MPI.Dims_create(count, collect(dims))))
    cells = cld.(grid.shape, dims)
    # Checked by every rank for all, so that none is left waiting for another.
    all((dims .- 1) .* cells .< grid.shape) || throw(ArgumentError(
        "a grid of $(join(grid.shape, " x ")) cells leaves some of $(join(dims, " x ")) ranks without" *
        " any: use fewer ranks, or another topology"))
    all3 = (dims..., 1, 1)
    made = create_global_grid((cells .+ 2)...; dimx=all3[1], dimy=all3[2], dimz=all3[3], quiet=true)
    return Cartesian{N}(made, cells, Tuple(Int.(made.coords[1:N])))
end

AdjointGPU.block(t::Cartesian, grid::Grid) = Block(grid, t.coords .* t.cells, t.cells)

AdjointGPU.exchange!(t::Cartesian, fields...) = update_halo!(fields...; active_global_grid=t.grid)

function AdjointGPU.accumulate!(t::Cartesian{N}, fields...) where {N}
    # ImplicitGlobalGrid exchanges z, x, y in this order: the transpose goes the other way.
    for field in fields, d in filter(<=(N), (2, 1, 3))
        n = size(field, d)
        at(i) = view(field, ntuple(k -> k == d ? (i:i) : Colon(), N)...)
        carrier = zero(field)
        carried(i) = view(carrier, ntuple(k -> k == d ? (i:i) : Colon(), N)...)
        # What stands in this rank's upper layer belongs to the first cells of the next, and so on.
        for (from, via, to, into) in ((n, n - 1, 1, 2), (1, 2, n, n - 1))
            fill!(carrier, 0)
            carried(via) .= at(from)
            update_halo!(carrier; dims=(d,), active_global_grid=t.grid)
            at(from) .= 0
            neighbours = t.grid.neighbors[to == 1 ? 1 : 2, d]
            neighbours == MPI.PROC_NULL || (at(into) .+= carried(to))
        end
    end
    return
end

AdjointGPU.global_max(t::Cartesian, values::Tuple) = Tuple(MPI.Allreduce(collect(values), max, t.grid.comm))
AdjointGPU.global_sum(t::Cartesian, values::Tuple) = Tuple(MPI.Allreduce(collect(values), +, t.grid.comm))
AdjointGPU.global_sum(t::Cartesian, values::AbstractArray) = MPI.Allreduce(values, +, t.grid.comm)

function AdjointGPU.hidden_edge(::Cartesian{N}, ranges) where {N}
    width = ntuple(d -> d == 1 ? 16 : 2, N)
    return all(length.(ranges) .> 2 .* width) ? width : nothing
end
